"""Checks that stop a run before it starts, and say what is wrong."""

import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from mmsnnet.engine.depth_check import check_depths, check_test_mode
from mmsnnet.engine.exit_checks import check_class_tokens, check_exits, check_widths
from mmsnnet.engine.runners import is_training, refuse_strategies, unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.files import is_url
from mmsnnet.models import PerExit, SimpleFPN, find_backbone, find_mismatch, locate_backbone
from mmsnnet.models.tasks import Depth, task_of
from mmsnnet.models.weights import weights_in
from mmsnnet.settings import is_named

# Heads whose classes are those of the data; a detector's RPN has none.
_EXIT = r'(\.(anchors|tuned)\.[^.]+)?'
_HEADS = re.compile(rf'(((decode|auxiliary)_)?head|(roi_head{_EXIT}\.)?(bbox|mask)_head)(\.\d+)?{_EXIT}')


def check_data_folders(cfg: Config, loaders: tuple[str, ...] = ('train_dataloader', 'val_dataloader')) -> None:
    """Refuse data sets whose folders or annotation files do not exist, or whose classes are not their folders.

    Raises:
        FileNotFoundError: naming them, and how to set them.
        UserError: naming classes and folders.
    """
    missing = {}
    for loader in loaders:
        evaluator = cfg.get(loader.replace('dataloader', 'evaluator')) or {}
        for key, path in [
            *_data_paths((cfg.get(loader) or {}).get('dataset') or {}, f'{loader}.dataset.data_root'),
            *_annotations_of(evaluator if isinstance(evaluator, dict) else {}, loader),
        ]:
            if not is_url(path) and not Path(path).exists():
                missing.setdefault(key, path)
    if missing:
        options = ' '.join(f'{key}=PATH' for key in missing)
        raise FileNotFoundError(
            f'no data at {", ".join(dict.fromkeys(missing.values()))}: put or link the data set there, or point to it '
            f'with --cfg-options {options}'
        )
    for loader in loaders:
        _check_class_folders((cfg.get(loader) or {}).get('dataset') or {})


def _check_class_folders(dataset: dict) -> None:
    """Refuse classes other than the folders of a ``CustomDataset``, which numbers them in alphabetical order."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    has_folders = is_named(dataset, 'CustomDataset') and not dataset.get('ann_file') and dataset.get('with_label', True)
    paths = [path for _, path in _data_paths(dataset, '')]
    if not has_folders or not isinstance(classes, list | tuple) or not paths or is_url(root := paths[-1]):
        return
    folders = sorted(entry.name for entry in Path(root).iterdir() if entry.is_dir())
    if folders != list(classes):
        raise UserError(
            f'{root} has the folders {folders}, but its classes are {list(classes)}: set classes to the names of the '
            'folders, in this order, and make an empty folder for a class without pictures'
        )


def _data_paths(dataset: dict, key: str) -> Iterator[tuple[str, str]]:
    """(setting, path) of a data set's folders and annotation file."""
    root = dataset.get('data_root') or ''
    if root:
        yield key, root
    prefix = dataset.get('data_prefix') or {}
    prefixes = [prefix] if isinstance(prefix, str) else prefix.values()
    for part in (*prefixes, dataset.get('ann_file')):
        if part:
            yield key, part if is_url(root) or is_url(part) else str(Path(root, part))


def _annotations_of(evaluator: dict, loader: str) -> Iterator[tuple[str, str]]:
    """(setting, path) of the annotation file that an evaluator reads for itself."""
    if evaluator.get('ann_file'):
        yield f'{loader.replace("dataloader", "evaluator")}.ann_file', evaluator['ann_file']


def check_before_run(runner: Runner) -> None:
    """Refuse a model, data set or way of training that cannot work with a stitched backbone.

    Raises:
        ValueError: saying what to change.
    """
    check_parallel(runner)
    check_exits(unwrapped_model(runner))
    check_heads(runner)
    check_widths(unwrapped_model(runner))
    check_class_tokens(unwrapped_model(runner))
    check_strides(runner)
    check_annotations(runner)
    check_test_mode(unwrapped_model(runner))
    check_depths(unwrapped_model(runner), [dataset for dataset, _ in _datasets(runner)])


def check_heads(runner: Runner) -> None:
    """Refuse a model whose heads do not fit its data set's classes.

    Raises:
        ValueError: with both numbers.
    """
    model = unwrapped_model(runner)
    if isinstance(task_of(model), Depth):
        # The classes of NYUv2 are kinds of rooms.
        return
    classes = getattr(_dataset(runner), 'metainfo', {}).get('classes')
    for name, head in model.named_modules():
        if not _HEADS.fullmatch(name) or isinstance(head, nn.ModuleList):
            continue
        if classes is not None and getattr(head, 'num_classes', len(classes)) != len(classes):
            raise UserError(
                f'{name} has num_classes={head.num_classes}, but the data set has {len(classes)} classes: '
                f'set num_classes={len(classes)} in every head'
            )


def check_strides(runner: Runner) -> None:
    """Refuse a detector whose strides are not those of its ``SimpleFPN``.

    Raises:
        ValueError: with both lists of strides.
    """
    model = unwrapped_model(runner)
    neck = getattr(model, 'neck', None)
    neck = neck.anchors[0] if isinstance(neck, PerExit) else neck
    if not isinstance(neck, SimpleFPN):
        return
    patch = find_backbone(model).anchors[0].patch_size[0]
    levels = [patch * 2 ** (neck.start_level + level) // 4 for level in range(neck.num_outs)]
    for name, module in model.named_modules():
        prior_strides = getattr(getattr(module, 'prior_generator', None), 'strides', [])
        strides = list(getattr(module, 'featmap_strides', None) or [stride[0] for stride in prior_strides])
        if strides != levels[: len(strides)]:
            raise UserError(
                f'{name} has strides {strides}, but the pyramid of a map of {patch}x{patch} patches has {levels}: give '
                'these to the anchor generator and to featmap_strides of the RoI extractors'
            )


def check_annotations(runner: Runner) -> None:
    """Refuse annotations in COCO's format that MMDetection would misread without a warning.

    Raises:
        ValueError: classes without a category of their name, whose labels would shift the others'; no masks where masks
            are trained or evaluated.
    """
    predicts_masks = getattr(getattr(unwrapped_model(runner), 'roi_head', None), 'with_mask', False)
    for dataset, uses_masks in _datasets(runner):
        while not hasattr(dataset, 'get_cat_ids') and hasattr(dataset, 'dataset'):
            dataset = dataset.dataset
        categories, classes = getattr(dataset, 'cat_ids', None), getattr(dataset, 'metainfo', {}).get('classes')
        if categories is None or classes is None:
            continue
        if len(categories) != len(classes):
            raise UserError(
                f"{dataset.ann_file} has categories for {len(categories)} of the data set's {len(classes)} classes: "
                'give the names that it has, in its order: dataset.metainfo=dict(classes=(...)), and num_classes in '
                'every head'
            )
        if predicts_masks and uses_masks and _lacks_masks(dataset):
            raise UserError(
                f'{dataset.ann_file} has boxes without masks, but the model trains on masks or is evaluated on them: '
                "use annotations with segmentations; or evaluate boxes alone, metric='bbox' and with_mask=False in "
                'LoadAnnotations; or train a detector without masks, model.roi_head.mask_head=None too'
            )


def _dataset(runner: Runner) -> Dataset:
    return (runner.train_dataloader if is_training(runner) else runner.test_dataloader).dataset


def _datasets(runner: Runner) -> Iterator[tuple[Dataset, bool]]:
    """The data sets that a run reads, and whether it needs their masks."""
    if is_training(runner):
        yield runner.train_dataloader.dataset, True
    for loop in (runner._val_loop, runner._test_loop):
        # Until it is needed, a loop is a config.
        if isinstance(loop, BaseLoop):
            metrics = [kind for metric in loop.evaluator.metrics for kind in getattr(metric, 'metrics', [])]
            yield loop.dataloader.dataset, 'segm' in metrics


def _lacks_masks(dataset: Dataset) -> bool:
    """Whether none of the first instances has a mask."""
    samples = (dataset.get_data_info(index) for index in range(min(len(dataset), 100)))
    instances = [instance for sample in samples for instance in sample.get('instances', [])]
    return bool(instances) and not any(instance.get('mask') for instance in instances)


def warn_without_sampling(runner: Runner) -> None:
    """Warn where a stitched model trains without the hook that draws routes."""
    names = {type(hook).__name__ for hook in runner.hooks}
    if is_training(runner) and 'StitchSamplingHook' not in names:
        runner.logger.warning(
            'no StitchSamplingHook: only the largest anchor trains, and no other route; append '
            "dict(type='mmsnnet.StitchSamplingHook') to custom_hooks"
        )


def check_parallel(runner: Runner) -> None:
    """Refuse ways of training on many devices that need a gradient of every parameter.

    Raises:
        ValueError: saying what to set instead.
    """
    refuse_strategies(runner)
    model = runner.model
    if not is_training(runner) or not is_model_wrapper(model):
        return
    if not isinstance(model, DistributedDataParallel):
        raise UserError(
            f'{type(model).__name__} cannot train a stitched model, in which each route leaves parameters without '
            "gradients: use MMEngine's Runner with MMDistributedDataParallel, its default"
        )
    if not model.find_unused_parameters or model.static_graph:
        raise UserError(
            'a route trains only the blocks it runs: set find_unused_parameters=True at the top of the config, '
            'and no static_graph'
        )


def check_checkpoint(runner: Runner, checkpoint: dict) -> bool:
    """Whether a checkpoint brings this model's backbone; refuse one of another architecture.

    MMEngine itself only warns. A checkpoint without any backbone, or (to start training from) with fewer keys, is fine.

    Raises:
        ValueError: naming the first key that does not fit.
    """
    model = unwrapped_model(runner)
    prefix, backbone = locate_backbone(model)
    weights = weights_in(checkpoint)
    given = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not given and is_training(runner) and not runner._resume:
        return False
    problem = find_mismatch(backbone.state_dict(), given)
    if problem:
        raise UserError(f'the checkpoint is of another architecture than this {type(backbone).__name__}: {problem}')
    if not is_training(runner):
        # Auxiliary heads are not needed, and may be left out.
        rest = {key: value for key, value in model.state_dict().items() if not key.startswith((prefix, 'auxiliary_'))}
        problem = find_mismatch(rest, {key: value for key, value in weights.items() if key in rest})
        if problem:
            raise UserError(f'the checkpoint does not fit this {type(model).__name__}: {problem}')
    return True
