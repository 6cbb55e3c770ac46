"""What loops do to batches beyond iterating over them."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torch import nn
from torch.utils.data import DataLoader


def remaining_batches(dataloader: DataLoader, done: int) -> DataLoader:
    """The same loader without its first ``done`` batches, whose images are not even read."""
    if not done:
        return dataloader
    return DataLoader(
        dataloader.dataset,
        batch_sampler=list(islice(dataloader.batch_sampler, done, None)),
        num_workers=dataloader.num_workers,
        collate_fn=dataloader.collate_fn,
        pin_memory=dataloader.pin_memory,
        worker_init_fn=dataloader.worker_init_fn,
        multiprocessing_context=dataloader.multiprocessing_context,
        prefetch_factor=dataloader.prefetch_factor,
    )


@contextmanager
def preprocessed_once(model: nn.Module) -> Iterator[None]:
    """Let a model preprocess a batch once, however often in a row it runs on it."""
    preprocessor = model.data_preprocessor
    forward = preprocessor.forward
    batch, preprocessed = None, None

    def remember(data: Any, training: bool = False) -> Any:
        nonlocal batch, preprocessed
        if data is not batch:
            batch, preprocessed = data, forward(data, training)
        return preprocessed

    preprocessor.forward = remember
    try:
        yield
    finally:
        del preprocessor.forward
