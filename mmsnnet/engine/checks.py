"""Checks that tell a user what is wrong before a long run starts."""

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmsnnet.engine.runners import is_training, unwrapped_model
from mmsnnet.models import find_backbone, find_mismatch


def check_data_folders(cfg: Config, loaders: tuple[str, ...] = ('train_dataloader', 'val_dataloader')) -> None:
    """Refuse data sets whose folder does not exist.

    Raises:
        FileNotFoundError: naming the folder, and how to set it.
    """
    for loader in loaders:
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        root = dataset.get('data_root')
        if root and '://' not in root and not Path(root).exists():
            raise FileNotFoundError(
                f'data_root {root!r} of {loader} does not exist: put the data set there, or point to it with '
                f'--cfg-options {loader}.dataset.data_root=PATH'
            )


def check_classes(runner: Runner) -> None:
    """Refuse a segmentation head that has not one output per class of the training set.

    Raises:
        ValueError: with both numbers.
    """
    head = getattr(unwrapped_model(runner), 'decode_head', None)
    if head is None or not is_training(runner):
        return
    classes = getattr(runner.train_dataloader.dataset, 'metainfo', {}).get('classes')
    if classes is not None and len(classes) != head.num_classes:
        raise ValueError(
            f'decode_head has num_classes={head.num_classes}, but the training set has {len(classes)} classes: '
            f'set num_classes={len(classes)} in decode_head and every auxiliary_head'
        )


def check_checkpoint(runner: Runner, checkpoint: dict) -> bool:
    """Whether a checkpoint brings this model's backbone; refuse one of another architecture.

    MMEngine itself only warns. A checkpoint without any backbone, or (to start training from) with fewer keys, is fine.

    Raises:
        ValueError: naming the first key that does not fit.
    """
    model = unwrapped_model(runner)
    backbone = find_backbone(model)
    prefix = next(name for name, module in model.named_modules() if module is backbone) + '.'
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    given = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not given and is_training(runner) and not runner._resume:
        return False
    problem = find_mismatch(backbone.state_dict(), given)
    if problem:
        raise ValueError(f'the checkpoint is of another architecture than this {type(backbone).__name__}: {problem}')
    return True
