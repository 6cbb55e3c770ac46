"""Depth estimation over MMSegmentation: heads for its ``DepthEstimator``, a loss, transforms, a metric.

It needs MMSegmentation, so a config imports it itself: ``custom_imports = dict(imports=['mmsnnet', 'mmsnnet.depth'])``.
``DPTDepthHead`` and ``LinearDepthHead`` read levels with or without class tokens and give metres; ``SigLoss`` trains
them.
"""

from mmsnnet.depth.depth_head import DepthHead
from mmsnnet.depth.dpt_head import DPTDepthHead
from mmsnnet.depth.linear_head import LinearDepthHead
from mmsnnet.depth.metric import LeanDepthMetric
from mmsnnet.depth.sig_loss import SigLoss
from mmsnnet.depth.transforms import CheckDepth, GammaColorJitter, NYUCrop

__all__ = [
    'CheckDepth',
    'DPTDepthHead',
    'DepthHead',
    'GammaColorJitter',
    'LeanDepthMetric',
    'LinearDepthHead',
    'NYUCrop',
    'SigLoss',
]
