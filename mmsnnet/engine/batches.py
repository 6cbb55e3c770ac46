"""Batches: without what cannot be loaded, without padding, preprocessed once, or of a few training images."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmsnnet.engine.randomness import seeded


class Unreadable(NamedTuple):
    """In place of a sample that cannot be loaded."""

    path: str
    reason: str


class CheckedBatch(NamedTuple):
    """A batch of what could be loaded, None for nothing, and the rest."""

    data: Any
    unreadable: list[Unreadable]


def checked_batches(dataloader: DataLoader, skip_batches: int = 0) -> DataLoader:
    """The same loader of ``CheckedBatch``es, without its first batches, whose images are not even read."""
    batches = dataloader.batch_sampler
    return DataLoader(
        _CheckedDataset(dataloader.dataset),
        batch_sampler=list(islice(batches, skip_batches, None)) if skip_batches else batches,
        num_workers=dataloader.num_workers,
        collate_fn=_CheckedCollate(dataloader.collate_fn),
        pin_memory=dataloader.pin_memory,
        worker_init_fn=dataloader.worker_init_fn,
        multiprocessing_context=dataloader.multiprocessing_context,
        prefetch_factor=dataloader.prefetch_factor,
    )


class _CheckedDataset(Dataset):
    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        # Whatever a pipeline raises: an image library's error, an assertion, a missing file.
        except Exception as error:
            info = self.dataset.get_data_info(index) if hasattr(self.dataset, 'get_data_info') else {}
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            return Unreadable(str(info.get('img_path', f'number {index}')), reason)


class _CheckedCollate:
    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list) -> CheckedBatch:
        readable = [sample for sample in samples if not isinstance(sample, Unreadable)]
        unreadable = [sample for sample in samples if isinstance(sample, Unreadable)]
        return CheckedBatch(self.collate(readable) if readable else None, unreadable)


def mask_padding(images: Tensor, samples: Sequence[BaseDataElement] | None) -> Tensor:
    """Mask (B, H, W) of preprocessed images (B, 3, H, W), False where a data preprocessor has padded them.

    Padding by a step of the pipeline counts as image: it leaves no trace in a sample's ``img_shape``.
    """
    is_image = torch.zeros_like(images[:, 0], dtype=torch.bool)
    for index in range(len(images)):
        sample = samples[index] if samples else {}
        height, width = sample.get('img_shape', images.shape[-2:])[:2]
        is_image[index, :height, :width] = True
    return is_image


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


def choose_images(dataset: Dataset, count: int, seed: int) -> list[int]:
    """Indices of so many images of a data set, at most all of them."""
    return random.Random(seed).sample(range(len(dataset)), min(count, len(dataset)))


def training_batches(model: nn.Module, dataset: Dataset, indices: Sequence[int], seed: int) -> Iterator[dict]:
    """Preprocessed batches of one training image each, augmented alike whichever rank loads them."""
    for index in indices:
        with seeded(seed, index):
            batch = model.data_preprocessor(pseudo_collate([dataset[index]]), training=True)
        yield batch
