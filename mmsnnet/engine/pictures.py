"""What routes predict of a few images of a test set."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from mmsnnet.engine.batches import checked_batches, preprocessed_once
from mmsnnet.engine.routes_loop import RoutesLoop
from mmsnnet.engine.runners import unwrapped_model
from mmsnnet.evaluation import Pictures, SharedPrefixes, draw_pictures, mixed_precision
from mmsnnet.evaluation.reports.pictures import QUALITIES
from mmsnnet.models import find_backbone
from mmsnnet.stitching import Record, Route


def picture_routes(loop: RoutesLoop, count: int, records: Sequence[Record], max_mb: float) -> Pictures:
    """Pictures of what the routes of records predict of so many images, evenly spaced over a loop's data set.

    Args:
        max_mb: of all pictures in the page.

    Raises:
        ValueError: they do not fit at any quality.
    """
    space = find_backbone(loop.runner.model).space
    predictions = predict(loop, [space[record.id] for record in records], count)
    pictures = draw_pictures(predictions, loop.dataloader.dataset.metainfo, max_mb)
    if pictures.quality != QUALITIES[0]:
        size, percent = pictures.quality
        loop.progress.write(f'to keep the page small, its pictures have {size} pixels at most and quality {percent}')
    return pictures


@torch.no_grad()
def predict(loop: RoutesLoop, routes: Sequence[Route], count: int) -> Iterator[tuple[Route, BaseDataElement]]:
    """The predictions of all routes of the first image, then of the second, ...

    A sample is to be used before the next one is asked for: routes write into the same.
    """
    model, dataset = loop.runner.model.eval(), loop.dataloader.dataset
    backbone = find_backbone(model)
    route_before = backbone.route
    sharing = SharedPrefixes(backbone, routes, memory_budget_mb=loop.memory_budget_mb, route_batch=loop.route_batch)
    batches = [[index] for index in _spaced(len(dataset), count)]
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=loop.dataloader.collate_fn)
    try:
        with sharing, preprocessed_once(unwrapped_model(loop.runner)):
            for batch in checked_batches(loader):
                data = loop.readable(batch)
                for route in sharing.visit() if data is not None else ():
                    with mixed_precision(loop.dtype, loop.device):
                        (sample,) = model.test_step(data)
                    yield route, sample
    finally:
        backbone.set_route(route_before)


def _spaced(size: int, count: int) -> list[int]:
    """So many places, or all, from the first to the last."""
    return np.linspace(0, size - 1, min(count, size)).round().astype(int).tolist()
