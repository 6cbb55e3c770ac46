"""Whether training fits: told before it starts, and tried where memory can run out."""

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.optim import Optimizer

from mmsnnet.engine.runners import configured_input_shape
from mmsnnet.evaluation.training_memory import TrainingSetting


def configured_setting(model: nn.Module, cfg: Config) -> TrainingSetting:
    """What a config's training steps run on, by the operators of CUDA where there is a device of it."""
    return TrainingSetting(
        input_shape=configured_input_shape(model, cfg),
        batch_size=cfg.train_dataloader.batch_size,
        dtype=_configured_dtype(cfg.optim_wrapper),
        device_type='cuda' if torch.cuda.is_available() else 'cpu',
    )


def configured_optimizer(model: nn.Module, cfg: Config) -> Optimizer:
    """The optimizer of a config, for a model on any device."""
    settings = {
        key: cfg.optim_wrapper[key] for key in ('optimizer', 'constructor', 'paramwise_cfg') if key in cfg.optim_wrapper
    }
    return build_optim_wrapper(model, {'type': 'OptimWrapper', **settings}).optimizer


def _configured_dtype(optim_wrapper: dict) -> str:
    """MMEngine's mixed precision is in half precision unless it says another."""
    if optim_wrapper.get('type') != 'AmpOptimWrapper':
        return 'float32'
    return str(optim_wrapper.get('dtype') or 'float16').removeprefix('torch.')
