"""Measurements behind what the documentation says of time and memory: ``python -m tools.benchmarks.NAME``."""

import mmsnnet  # noqa: F401  MMSegmentation over mmcv-lite imports only after it
