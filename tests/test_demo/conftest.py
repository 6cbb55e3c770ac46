from browsers import browser  # noqa: F401
from toy_demo import make_predictor  # noqa: F401
