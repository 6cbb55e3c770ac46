"""Training samples in an order, and with augmentations, that do not depend on where or when they are loaded."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, count, islice, repeat
from typing import Any, NamedTuple

from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from mmsnnet.engine.randomness import seed_generators, shared_seed
from mmsnnet.errors import UserError


class Draw(NamedTuple):
    """A sample that is to be loaded, and when it is trained on."""

    iteration: int
    place: int  # in its batch
    index: int  # in the data set


def seed_each_sample(runner: Runner, seed: int) -> None:
    """Load each training sample with generators seeded by ``seed``, rank, iteration and its place in the batch.

    Workers do so themselves. A resumed loop over iterations reads no sample that it has trained on. Call this whenever
    an epoch starts.

    Raises:
        ValueError: an epoch has no batch; when the first one is drawn.
    """
    loop, loader = runner.train_loop, runner.train_dataloader
    if getattr(loader.batch_sampler, 'loop', None) is not loop:
        # Loaders pass this method, where a data set has it, all that a batch sampler yields for a batch.
        loader.dataset.__getitems__ = partial(_load, loader.dataset, seed, get_rank())
        # A loader refuses a plain assignment, which running iterators would miss. From here on none of them is used.
        vars(loader)['batch_sampler'] = _DrawingSampler(_batches_from_the_first(runner), loop)
    if isinstance(loop, IterBasedTrainLoop):
        loader._iterator = None
        if hasattr(loop.dataloader_iterator, 'skip_iter'):
            loop.dataloader_iterator = _Rest(loader)
        else:
            # A resumed loop takes and drops every batch that it has trained on: here it takes and drops None.
            loop.dataloader_iterator = chain(repeat(None, loop.iter), loader)


class _Rest:
    """Batches that are still to be trained on, for a loop that asks its iterator to skip others: onedl-mmengine's."""

    def __init__(self, loader: DataLoader) -> None:
        self.batches = iter(loader)

    def __iter__(self) -> Iterator[Any]:
        return self.batches

    def __next__(self) -> Any:
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """The batch sampler has skipped them."""


def _load(dataset: Dataset, seed: int, rank: int, draws: Sequence[Draw | int]) -> list[Any]:
    """The samples of a batch. Other loaders of the data set draw plain indices, for which nothing is seeded."""
    samples = []
    for draw in draws:
        if isinstance(draw, Draw):
            seed_generators(seed, rank, draw.iteration, draw.place)
        samples.append(dataset[draw.index if isinstance(draw, Draw) else draw])
    return samples


class _DrawingSampler:
    """A batch sampler of ``Draw``s: the rest of a loop over iterations, or an epoch of a loop over epochs."""

    def __init__(self, batches: BatchSampler, loop: BaseLoop) -> None:
        self.batches = batches
        self.loop = loop

    @property
    def sampler(self) -> Sampler:
        """MMEngine's hooks look here."""
        return self.batches.sampler

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        done = self.loop.iter
        if isinstance(self.loop, IterBasedTrainLoop):
            batches = islice(_endless(self.batches), done, None)
        else:
            batches = _epoch(self.batches, self.loop.epoch)
        for iteration, indices in enumerate(batches, start=done):
            yield [Draw(iteration, place, index) for place, index in enumerate(indices)]


def _endless(batches: BatchSampler) -> Iterator[list[int]]:
    """The batches of epoch after epoch."""
    return chain.from_iterable(_epoch(batches, epoch) for epoch in count())


def _epoch(batches: BatchSampler, epoch: int) -> Iterator[list[int]]:
    """The batches of one epoch, at least one."""
    if hasattr(batches.sampler, 'set_epoch'):
        batches.sampler.set_epoch(epoch)
    is_empty = True
    for indices in batches:
        is_empty = False
        yield indices
    if is_empty:
        raise UserError('an epoch of training has no batch: add images, or set a smaller train_dataloader.batch_size')


def _batches_from_the_first(runner: Runner) -> BatchSampler:
    """The batch sampler of the loader's config, built again.

    A loop over iterations starts its iterator when it is built. That iterator's workers have already taken the first
    batches of an endless sampler.
    """
    cfg, loader = runner._train_dataloader, runner.train_dataloader
    if isinstance(cfg, DataLoader):
        return getattr(loader.batch_sampler, 'batches', loader.batch_sampler)
    seed = shared_seed(runner, None)
    sampler = DATA_SAMPLERS.build(cfg['sampler'], default_args={'dataset': loader.dataset, 'seed': seed})
    if cfg.get('batch_sampler') is None:
        return BatchSampler(sampler, loader.batch_size, loader.drop_last)
    settings = {'sampler': sampler, 'batch_size': cfg['batch_size']}
    return DATA_SAMPLERS.build(cfg['batch_sampler'], default_args=settings)
