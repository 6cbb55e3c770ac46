"""Random states as a function of seed and iteration: a resumed run goes on as if it had never stopped."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.runner import IterBasedTrainLoop, Runner


def shared_seed(runner: Runner, seed: int | None) -> int:
    """One seed for all ranks, by default the runner's, even where the runner gives each its own."""
    seeds = [runner.seed if seed is None else seed]
    broadcast_object_list(seeds)
    return seeds[0]


def seed_generators(*what: Any) -> None:
    """Seed the global generators, those that augmentations and drop path draw from, by any values."""
    seed = random.Random(':'.join(map(str, what))).getrandbits(32)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(*what: Any) -> Iterator[None]:
    """Seed the global generators, and put them back: training does not notice."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    seed_generators(*what)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)


def seed_each_batch(runner: Runner, seed: int) -> None:
    """Seed the global generators before each batch is loaded, by seed, rank and the number of the batch.

    MMEngine saves no random states, and a resumed loop loads the batches that were trained on once more, but draws no
    drop path for them. To be called when an epoch starts. A loop over epochs can only be resumed between two, and so is
    seeded once in each.
    """
    loop = runner.train_loop
    if not isinstance(loop, IterBasedTrainLoop):
        seed_generators(seed, get_rank(), loop.epoch)
    elif not isinstance(loop.dataloader_iterator, _SeededBatches):
        loop.dataloader_iterator = _SeededBatches(loop.dataloader_iterator, seed)


class _SeededBatches:
    """An endless iterator over batches, each loaded, and then trained on, with generators of its own seed."""

    def __init__(self, batches: Iterator, seed: int) -> None:
        self._batches = batches
        self._seed = seed
        self._drawn = 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        seed_generators(self._seed, get_rank(), self._drawn)
        self._drawn += 1
        return next(self._batches)
