"""Without what takes half of MMEngine's time on toys: a garbage collection for each data set, and configs laid out."""

from types import SimpleNamespace

from mmengine.config import config
from mmengine.dataset import base_dataset

base_dataset.gc = SimpleNamespace(collect=lambda: 0)
config.FormatCode = lambda text, **_: (text, False)
