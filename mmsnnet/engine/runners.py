"""What hooks and loops need to know of an MMEngine runner."""

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import BaseLoop, FlexibleRunner, Runner
from torch import nn

from mmsnnet.errors import UserError


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
    """(width, height) of all images after a step of a pipeline; None where it gives them no common size."""
    if step['type'] == 'Resize' and isinstance(step.get('scale'), tuple | list):
        return tuple(step['scale'])
    if step['type'] == 'CenterCrop':
        size = step['crop_size']
        return (size, size) if isinstance(size, int) else tuple(size)
    return None


def find_input_shape(runner: Runner) -> tuple[int, int]:
    """(height, width) of the images a runner's config trains on, at which costs are measured.

    Raises:
        ValueError: the config does not say.
    """
    return configured_input_shape(unwrapped_model(runner), runner.cfg)


def configured_input_shape(model: nn.Module, cfg: Config) -> tuple[int, int]:
    """(height, width) of the images a config trains its model on; where it does not say that, tests it on.

    Raises:
        ValueError: the config says neither.
    """
    for size in (getattr(model.data_preprocessor, 'size', None), cfg.get('crop_size')):
        if size is not None:
            height, width = (size, size) if isinstance(size, int) else size
            return height, width
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    sizes = [size for step in dataset.get('pipeline') or [] for size in [_size_after(step)] if size is not None]
    if sizes:
        width, height = sizes[-1]
        return height, width
    raise UserError(
        'the input size at which to measure costs is unknown: set crop_size=(height, width) in the config, '
        'data_preprocessor.size, or input_shape of the hook and the loops'
    )
