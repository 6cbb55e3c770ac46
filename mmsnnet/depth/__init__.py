"""Depth estimation over MMSegmentation: the metric of many routes.

It needs MMSegmentation, so a config imports it itself: ``custom_imports = dict(imports=['mmsnnet', 'mmsnnet.depth'])``.
"""

from mmsnnet.depth.metric import LeanDepthMetric

__all__ = ['LeanDepthMetric']
