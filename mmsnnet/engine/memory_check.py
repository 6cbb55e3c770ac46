"""Whether training fits into memory: predicted before it starts, and tried where memory can run out."""

import logging
from collections.abc import Callable, Iterable

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from mmsnnet.engine.randomness import seeded
from mmsnnet.engine.runners import training_input_shape, unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.evaluation.profiling.training_memory import (
    TrainingMemory,
    TrainingSetting,
    TrainingStep,
    num_bytes,
    predict_training_memory,
    routes_by_memory,
    state_tensors,
    training_mode,
)
from mmsnnet.models import find_backbone
from mmsnnet.models.blank_batch import blank_batch
from mmsnnet.stitching import Route
from mmsnnet.terminal import lowest_level


def check_memory(runner: Runner, input_shape: tuple[int, int], routes: Iterable[Route]) -> None:
    """Log what the most expensive of some routes takes to train, and try it where memory can run out.

    Memory then runs out before the first iteration, not at whichever iteration draws that route. On a CPU nothing is
    tried: a step takes long there, and memory has no fixed limit.

    Args:
        input_shape: (height, width) of the training images.
        routes: those that train.

    Raises:
        UserError: out of memory.
    """
    model = unwrapped_model(runner)
    if not _can_run_out(model) and not _is_read(runner.logger):
        return
    backbone, setting = find_backbone(model), _setting(runner, input_shape)
    route = backbone.route
    backbone.set_route(routes_by_memory(backbone, routes)[-1])
    try:
        predicted = _attempt('cannot be predicted', runner, lambda: _predict(runner, model, setting))
        if _can_run_out(model):
            _attempt('cannot be tried', runner, lambda: rehearse(model, runner.optim_wrapper, setting, predicted))
    finally:
        backbone.set_route(route)


def rehearse(
    model: nn.Module, optim_wrapper: OptimWrapper, setting: TrainingSetting, predicted: TrainingMemory | None
) -> None:
    """Run a training step of the route that is set on blank images, and leave no trace of it.

    Weights, gradients, the optimizer, running statistics and random states stay as they are. Memory that the optimizer
    will keep, and earlier batches leave, is held meanwhile.

    Args:
        model: an MMEngine model, unwrapped.
        predicted: memory of this step, if known.

    Raises:
        UserError: out of memory.
    """
    device = next(model.parameters()).device
    step = TrainingStep(model, lambda: optim_wrapper.optim_context(model))
    try:
        with seeded('rehearsal'), training_mode(model):
            reserved = _kept_later(optim_wrapper.optimizer, predicted, setting, device)
            batch = blank_batch(model, setting.batch_size, setting.input_shape, device)
            functional_call(step, {f'model.{name}': buffer.clone() for name, buffer in model.named_buffers()}, batch)
            del reserved
    except torch.cuda.OutOfMemoryError as error:
        expected = f', which takes {predicted.describe(distributed=False)},' if predicted else ''
        raise UserError(
            f'out of memory: the most expensive route, {find_backbone(model).route}{expected} does not fit with '
            f'{setting} a step: lower train_dataloader.batch_size, set model.backbone.with_cp=True, or train with --amp'
        ) from error


def configured_setting(model: nn.Module, cfg: Config, input_shape: tuple[int, int] | None = None) -> TrainingSetting:
    """What a config's training steps run on. The operators are those of CUDA where there is such a device.

    Args:
        input_shape: (height, width); by default the config's.
    """
    return TrainingSetting(
        input_shape=input_shape or training_input_shape(model, cfg),
        batch_size=cfg.train_dataloader.batch_size,
        dtype=_configured_dtype(cfg.optim_wrapper),
        device_type='cuda' if torch.cuda.is_available() else 'cpu',
        accumulates=cfg.optim_wrapper.get('accumulative_counts', 1) > 1,
    )


def configured_optimizer(model: nn.Module, cfg: Config) -> Optimizer:
    """The optimizer of a config, for a model on any device."""
    names = ('optimizer', 'constructor', 'paramwise_cfg')
    settings = {name: cfg.optim_wrapper[name] for name in names if name in cfg.optim_wrapper}
    return build_optim_wrapper(model, {'type': 'OptimWrapper', **settings}).optimizer


def _configured_dtype(optim_wrapper: dict) -> str:
    """MMEngine's mixed precision is in half precision unless it says another."""
    if optim_wrapper.get('type') != 'AmpOptimWrapper':
        return 'float32'
    return _name_of(optim_wrapper.get('dtype') or 'float16')


def _name_of(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix('torch.')


def _setting(runner: Runner, input_shape: tuple[int, int]) -> TrainingSetting:
    """What a runner's training steps run on."""
    optim_wrapper, loader = runner.optim_wrapper, runner.train_dataloader
    is_mixed = isinstance(optim_wrapper, AmpOptimWrapper)
    return TrainingSetting(
        input_shape=input_shape,
        batch_size=loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1),
        dtype=_name_of(optim_wrapper.cast_dtype or 'float16') if is_mixed else 'float32',
        device_type='cuda' if next(runner.model.parameters()).is_cuda else 'cpu',
        accumulates=optim_wrapper._accumulative_counts > 1,
    )


def _predict(runner: Runner, model: nn.Module, setting: TrainingSetting) -> TrainingMemory:
    """Memory of training the route that is set, logged."""
    predicted = predict_training_memory(model, runner.optim_wrapper.optimizer, setting)
    described = predicted.describe(distributed=is_model_wrapper(runner.model))
    runner.logger.info(
        f'training takes at most {described}, predicted for {setting} a step and route {find_backbone(model).route}'
    )
    return predicted


def _attempt(failure: str, runner: Runner, call: Callable[[], TrainingMemory | None]) -> TrainingMemory | None:
    """What a call returns. None where a model's own code fails on blank images, which must not stop training."""
    try:
        return call()
    except UserError:
        raise
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        runner.logger.info(f'how much memory training takes {failure}: {reason:.200}')
        return None


def _can_run_out(model: nn.Module) -> bool:
    return next(model.parameters()).device.type != 'cpu'


def _is_read(logger: logging.Logger) -> bool:
    """Whether ``info`` messages go anywhere: those of ranks other than the first do not."""
    return any(lowest_level(handler) <= logging.INFO for handler in logger.handlers)


def _kept_later(
    optimizer: Optimizer, predicted: TrainingMemory | None, setting: TrainingSetting, device: torch.device
) -> Tensor:
    """Memory as large as what a later step begins with: all of the optimizer's state, and accumulated gradients."""
    missing = predicted.optimizer_state - num_bytes(state_tensors(optimizer)) if predicted else 0
    if predicted and setting.accumulates:
        missing += predicted.buckets
    return torch.empty(max(missing, 0), dtype=torch.uint8, device=device)
