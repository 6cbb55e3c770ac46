"""Stitchable vision backbones for MMSegmentation, MMDetection and MMPretrain.

Importing this package registers everything it offers, and lets old OpenMMLab run on today's PyTorch: a config needs
only ``custom_imports = dict(imports=['mmsnnet'])``.
"""

from mmsnnet import compat

# Before anything imports mmcv's operators.
compat.install()

from mmsnnet import engine, models  # noqa: E402
from mmsnnet.stitching import BudgetController, read_records, select  # noqa: E402

__all__ = ['BudgetController', 'engine', 'models', 'read_records', 'select']
__version__ = '0.1.0'
