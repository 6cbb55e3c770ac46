"""Training and evaluation of stitched models in MMEngine runners."""

from mmsnnet.engine.checks import check_data_folders
from mmsnnet.engine.hooks import StitchSamplingHook
from mmsnnet.engine.layer_decay import LayerDecayOptimWrapperConstructor
from mmsnnet.engine.loops import StitchTestLoop, StitchValLoop
from mmsnnet.engine.memory_check import configured_optimizer, configured_setting
from mmsnnet.engine.pictures import picture_routes
from mmsnnet.engine.progress import ProgressBarHook, RoutesProgress
from mmsnnet.engine.rule_check import check_rules
from mmsnnet.engine.runners import configured_input_shape, find_input_shape, unwrapped_model

__all__ = [
    'LayerDecayOptimWrapperConstructor',
    'ProgressBarHook',
    'RoutesProgress',
    'StitchSamplingHook',
    'StitchTestLoop',
    'StitchValLoop',
    'check_data_folders',
    'check_rules',
    'configured_input_shape',
    'configured_optimizer',
    'configured_setting',
    'find_input_shape',
    'picture_routes',
    'unwrapped_model',
]
