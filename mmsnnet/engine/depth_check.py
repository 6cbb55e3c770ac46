"""Checks of a model of depth before a run: how it is tested, and that true depth is in metres."""

from collections.abc import Iterable, Iterator

import numpy as np
from torch import nn
from torch.utils.data import Dataset

from mmsnnet.errors import UserError
from mmsnnet.models.tasks import Depth, task_of

# Whether depth is in metres shows in few depth maps.
NUM_MAPS = 4


def check_test_mode(model: nn.Module) -> None:
    """Refuse windows without their mirror images, which MMSegmentation's ``DepthEstimator`` forgets about.

    Raises:
        ValueError: saying which modes there are.
    """
    task = task_of(model)
    if isinstance(task, Depth) and task.mode == 'slide':
        raise UserError(
            "test_cfg has mode='slide', but MMSegmentation's DepthEstimator then predicts whole images: set "
            "mode='whole', or 'slide_flip' for windows, each averaged with its mirror image"
        )


def check_depths(model: nn.Module, datasets: Iterable[Dataset]) -> None:
    """Refuse data sets whose depth is not in metres, or zero everywhere, for a model of depth.

    Looks at the median of few depth maps, as they are loaded: without random changes.

    Raises:
        ValueError: with the median, and the limits of the head.
    """
    if not isinstance(task_of(model), Depth):
        return
    head = model.decode_head
    low, high = getattr(head, 'min_depth', 0.0), getattr(head, 'max_depth', float('inf'))
    for dataset in (part for whole in datasets for part in _parts(whole)):
        maps = _first_maps(dataset)
        if not maps:
            continue
        depths = np.concatenate([depth[depth > 0] for depth in maps.values()])
        files = f'the first depth maps, such as {next(iter(maps))},'
        if not len(depths):
            raise UserError(
                f'{files} are 0 everywhere, which means not measured: check the files, and depth_rescale_factor of '
                'LoadDepthAnnotation'
            )
        if not low <= (median := np.median(depths)) <= high:
            raise UserError(
                f'{files} have a median of {median:g}, but the head predicts {low:g} to {high:g} metres: set '
                'depth_rescale_factor of LoadDepthAnnotation, 0.001 for files in millimetres, or min_depth and '
                'max_depth of the head'
            )


def _parts(dataset: Dataset) -> Iterator[Dataset]:
    """The data sets that a data set wraps."""
    parts = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for part in parts:
        if part is None:
            yield dataset
        else:
            yield from _parts(part)


def _first_maps(dataset: Dataset) -> dict[str, np.ndarray]:
    """The first depth maps of a data set, by path; none if it does not load any."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    loader = next((transform for transform in transforms if hasattr(transform, 'depth_rescale_factor')), None)
    samples = (loader(dataset.get_data_info(index)) for index in range(min(len(dataset), NUM_MAPS)) if loader)
    return {sample['depth_map_path']: sample['gt_depth_map'] for sample in samples}
