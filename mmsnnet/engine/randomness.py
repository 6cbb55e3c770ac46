"""Seeds, and generators seeded by them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast_object_list
from mmengine.runner import Runner


def shared_seed(runner: Runner, seed: int | None) -> int:
    """One seed for all ranks, by default the runner's, even where the runner gives each its own."""
    seeds = [runner.seed if seed is None else seed]
    broadcast_object_list(seeds)
    return seeds[0]


def seed_generators(*what: Any) -> None:
    """Seed the global generators, from which augmentations and drop path draw, by any values."""
    seed = random.Random(':'.join(map(str, what))).getrandbits(32)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(*what: Any) -> Iterator[None]:
    """Seed the global generators within a context, and restore their states after it."""
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
