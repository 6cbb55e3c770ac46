"""Metrics of many routes shared among ranks: each rank computes those of some routes, and all ranks get all metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from unittest.mock import patch

import torch.distributed
from mmengine.dist import get_dist_info
from torch.distributed import ProcessGroup

from mmsnnet.errors import UserError

T = TypeVar('T')


class RankGroup:
    """The ranks of a job, connected so that objects travel without passing through a GPU; or one process alone.

    Ranks wait for each other up to a day, because one may time routes or compute metrics while the others wait.
    All ranks enter it together.
    """

    def __init__(self) -> None:
        self.rank, self.size = get_dist_info()
        self._group: ProcessGroup | None = None

    def __enter__(self) -> 'RankGroup':
        if self.size > 1:
            self._group = torch.distributed.new_group(backend='gloo', timeout=timedelta(days=1))
        return self

    def __exit__(self, *_: object) -> None:
        if self._group is not None:
            torch.distributed.destroy_process_group(self._group)

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        if self._group is not None:
            torch.distributed.barrier(self._group)

    def to_rank(self, value: T, rank: int) -> list[T] | None:
        """The values of all ranks in their order, on one of them; None on the others."""
        if self._group is None:
            return [value]
        received = [None] * self.size if self.rank == rank else None
        torch.distributed.gather_object(value, received, dst=rank, group=self._group)
        return received

    def to_all(self, value: T) -> list[T]:
        """The values of all ranks in their order."""
        if self._group is None:
            return [value]
        received: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(received, value, group=self._group)
        return received


def interleaved(parts: list[list[T]], size: int) -> list[T]:
    """Results of all ranks in the order of the samples, which the ranks took in turn, without duplicates at the end.

    Raises:
        UserError: ranks have results of unequal length.
    """
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise UserError(
            f'ranks have {", ".join(map(str, lengths))} results: give each rank as many samples by '
            'test_dataloader.sampler.round_up=True'
        )
    return [result for results in zip(*parts, strict=True) for result in results][:size]


@contextmanager
def evaluating_alone() -> Iterator[None]:
    """Let metrics use only the results they hold: MMEngine sees a process without other ranks."""
    with patch.object(torch.distributed, 'is_initialized', lambda: False):
        yield
