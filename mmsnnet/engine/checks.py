"""Checks that tell a user what is wrong before a long run starts."""

import re
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmsnnet.engine.runners import is_training, unwrapped_model
from mmsnnet.models import find_backbone, find_mismatch

# Heads whose classes are those of the data; a detector's RPN has none.
_HEADS = re.compile(r'(decode_head|auxiliary_head|(roi_head\.)?(bbox_head|mask_head))(\.\d+)?')


def check_data_folders(cfg: Config, loaders: tuple[str, ...] = ('train_dataloader', 'val_dataloader')) -> None:
    """Refuse data sets whose folders or annotation files do not exist.

    Raises:
        FileNotFoundError: naming them, and how to set them.
    """
    missing = {}
    for loader in loaders:
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        root = dataset.get('data_root') or ''
        if '://' in root:
            continue
        parts = [*(dataset.get('data_prefix') or {}).values(), dataset.get('ann_file')]
        paths = ([Path(root)] if root else []) + [Path(root, part) for part in parts if part]
        absent = [str(path) for path in paths if not path.exists()]
        if absent:
            missing[loader] = absent[0]
    if missing:
        options = ' '.join(f'{loader}.dataset.data_root=PATH' for loader in missing)
        raise FileNotFoundError(
            f'no data at {", ".join(dict.fromkeys(missing.values()))}: put or link the data set there, or point to it '
            f'with --cfg-options {options}'
        )


def check_heads(runner: Runner) -> None:
    """Refuse a model whose heads do not fit its data set's classes or its backbone's width.

    Raises:
        ValueError: with both numbers.
    """
    model = unwrapped_model(runner)
    classes = getattr(_dataset(runner), 'metainfo', {}).get('classes')
    width = model.backbone.out_channels if getattr(model, 'neck', None) is None else None
    for name, head in model.named_modules():
        if not _HEADS.fullmatch(name) or isinstance(head, nn.ModuleList):
            continue
        if classes is not None and getattr(head, 'num_classes', len(classes)) != len(classes):
            raise ValueError(
                f'{name} has num_classes={head.num_classes}, but the data set has {len(classes)} classes: '
                f'set num_classes={len(classes)} in every head'
            )
        # A head that reads several levels has a list.
        channels = getattr(head, 'in_channels', width)
        if width is not None and set(channels if isinstance(channels, list | tuple) else [channels]) != {width}:
            raise ValueError(
                f"{name} has in_channels={channels}, but every map has the largest anchor's width, {width}: "
                f'set in_channels to {width}'
            )


def check_annotations(runner: Runner) -> None:
    """Refuse annotations of COCO's format from which MMDetection would learn something else without a word.

    Raises:
        ValueError: classes without a category of their name, whose labels would shift the others'; no masks for a model
            that predicts them.
    """
    dataset = _dataset(runner)
    while not hasattr(dataset, 'get_cat_ids') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    categories, classes = getattr(dataset, 'cat_ids', None), getattr(dataset, 'metainfo', {}).get('classes')
    if categories is None or classes is None:
        return
    if len(categories) != len(classes):
        raise ValueError(
            f"{dataset.ann_file} has categories for {len(categories)} of the data set's {len(classes)} classes: give "
            'the names that it has, in its order: dataset.metainfo=dict(classes=(...)), and num_classes in every head'
        )
    roi_head = getattr(unwrapped_model(runner), 'roi_head', None)
    if getattr(roi_head, 'with_mask', False) and _lacks_masks(dataset):
        raise ValueError(
            f'{dataset.ann_file} has boxes without masks, but the model predicts masks: take annotations with '
            'segmentations, or a detector without mask head: model.roi_head.mask_head=None, with_mask=False in '
            "LoadAnnotations and metric='bbox'"
        )


def _dataset(runner: Runner) -> Dataset:
    return (runner.train_dataloader if is_training(runner) else runner.test_dataloader).dataset


def _lacks_masks(dataset: Dataset) -> bool:
    """Whether none of the first instances has a mask."""
    samples = (dataset.get_data_info(index) for index in range(min(len(dataset), 100)))
    instances = [instance for sample in samples for instance in sample.get('instances', [])]
    return bool(instances) and not any(instance.get('mask') for instance in instances)


def warn_without_sampling(runner: Runner) -> None:
    """Tell who trains a stitched model without the hook that draws routes."""
    names = {type(hook).__name__ for hook in runner.hooks}
    if is_training(runner) and 'StitchSamplingHook' not in names:
        runner.logger.warning(
            'no StitchSamplingHook: only the largest anchor trains, and no stitch; append '
            "dict(type='mmsnnet.StitchSamplingHook') to custom_hooks"
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
    if not is_training(runner):
        # Auxiliary heads are not needed, and may be left out.
        rest = {key: value for key, value in model.state_dict().items() if not key.startswith((prefix, 'auxiliary_'))}
        problem = find_mismatch(rest, {key: value for key, value in weights.items() if key in rest})
        if problem:
            raise ValueError(f'the checkpoint does not fit this {type(model).__name__}: {problem}')
    return True
