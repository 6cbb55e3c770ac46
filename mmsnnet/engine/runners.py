"""What hooks and loops need to know of an MMEngine runner."""

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, FlexibleRunner, Runner
from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.settings import is_named


def unwrapped_model(runner: Runner) -> nn.Module:
    """The model without wrappers for data-parallel training or test-time augmentation."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model


def refuse_strategies(runner: Runner | FlexibleRunner) -> None:
    """Refuse the runner of FSDP, DeepSpeed and ColossalAI, which shards parameters as if every step used them all.

    Raises:
        ValueError: saying what to use instead.
    """
    if isinstance(runner, FlexibleRunner):
        raise UserError(
            "MMEngine's FlexibleRunner and its strategies cannot train or test a stitched model, whose routes use "
            "only some of the parameters: remove runner_type='FlexibleRunner' and strategy from the config, and train "
            'on many GPUs with --launcher pytorch'
        )


def is_training(runner: Runner) -> bool:
    """Whether the runner was started with ``train()``; before that its train loop is still a config."""
    return isinstance(runner._train_loop, BaseLoop)


def _size_after(step: Mapping) -> tuple[int, int] | None:
    """(height, width) of all images after a step of a pipeline; None where it gives them no common size."""
    if step['type'] == 'Resize' and isinstance(step.get('scale'), tuple | list):
        width, height = step['scale']
        return height, width
    if step['type'] == 'CenterCrop':
        height, width = reversed(_pair(step['crop_size']))
        return height, width
    return None


def _size_after_augmentation(step: Mapping) -> tuple[int, int] | None:
    """(height, width) of all images after a step of MMPretrain that augments; None where it gives no common size."""
    if is_named(step, 'RandomResizedCrop'):
        return _pair(step['scale'])
    if is_named(step, 'RandomCrop'):
        return _pair(step['crop_size'])
    return _size_after(step)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    first, second = (size, size) if isinstance(size, int) else size
    return first, second


def find_input_shape(runner: Runner) -> tuple[int, int]:
    """(height, width) of the images at which the costs of a runner's model are measured.

    Raises:
        ValueError: the config does not say.
    """
    return configured_input_shape(unwrapped_model(runner), runner.cfg)


def configured_input_shape(model: nn.Module, cfg: Config) -> tuple[int, int]:
    """(height, width) of the images at which the costs of a config's model are measured.

    That is the window by which images are tested, where there is one, or else the size of training.

    Raises:
        ValueError: the config says neither, or has windows without their size or stride.
    """
    test_cfg = getattr(model, 'test_cfg', None) or {}
    mode = str(test_cfg.get('mode'))
    if mode.startswith('slide'):
        if missing := [key for key in ('crop_size', 'stride') if not test_cfg.get(key)]:
            raise UserError(
                f'test_cfg has mode={mode!r} without {" and ".join(missing)}: set {missing[0]}=(height, width)'
            )
        return _pair(test_cfg['crop_size'])
    return training_input_shape(model, cfg)


def training_input_shape(model: nn.Module, cfg: Config) -> tuple[int, int]:
    """(height, width) of the images a config trains its model on; where it does not say that, tests it on.

    Raises:
        ValueError: the config says neither.
    """
    for size in (getattr(model.data_preprocessor, 'size', None), cfg.get('crop_size')):
        if size is not None:
            return _pair(size)
    sizes = [_size_after(step) for step in _pipeline(cfg, 'test_dataloader')]
    # Elsewhere crops may be smaller than the images, or be given as (width, height).
    if cfg.get('default_scope') == 'mmpretrain' and not any(sizes):
        sizes = [_size_after_augmentation(step) for step in _pipeline(cfg, 'train_dataloader')]
    for size in filter(None, reversed(sizes)):
        return size
    raise UserError(
        'the input size at which to measure costs is unknown: set crop_size=(height, width) in the config, '
        'data_preprocessor.size, or input_shape of the hook and the loops'
    )


def _pipeline(cfg: Config, loader: str) -> Sequence[Mapping]:
    dataset = (cfg.get(loader) or {}).get('dataset') or {}
    return dataset.get('pipeline') or []
