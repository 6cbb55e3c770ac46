"""Samplers of routes as a training uses them: registered, built, and alike on all ranks."""

import math
from collections.abc import Sequence
from logging import Logger

import torch
from mmengine.dist import all_gather, get_dist_info
from torch import Tensor

from mmsnnet.registry import ROUTE_SAMPLERS
from mmsnnet.stitching import (
    CostIntervalSampler,
    LossSampler,
    ResourceConstrainedSampler,
    SandwichSampler,
    StitchSpace,
    UniformSampler,
    read_records,
    route_of,
)

for _sampler in (UniformSampler, ResourceConstrainedSampler, CostIntervalSampler, SandwichSampler, LossSampler):
    ROUTE_SAMPLERS.register_module(module=_sampler)


def build_sampler(cfg: dict, space: StitchSpace, gflops: Sequence[float], seed: int) -> UniformSampler:
    """A sampler of the routes of ``space``.

    Args:
        cfg: of ``mmsnnet.ROUTE_SAMPLERS``. ``records`` may be a file of them.
        gflops: cost of each route, by id.

    Raises:
        ValueError: records of another space.
        FileNotFoundError: no such file of records.
    """
    settings = {'_scope_': 'mmsnnet', 'gflops': gflops, 'seed': seed, **cfg}
    if isinstance(settings.get('records'), str):
        settings['records'] = read_records(settings['records'])
        for record in settings['records']:
            route_of(space, record)
    return ROUTE_SAMPLERS.build(settings)


def warn_of_one_group(sampler: UniformSampler, cfg: dict, gflops: Sequence[float], logger: Logger) -> None:
    """Warn where ``step_gflops`` is too large to part the routes."""
    if len(getattr(sampler, 'groups', ())) == 1 and 'step_gflops' in cfg:
        logger.warning(
            f'step_gflops={cfg["step_gflops"]} puts all {len(gflops)} routes, of {min(gflops):.4g} to '
            f'{max(gflops):.4g} GFLOPs, into one group: they are drawn uniformly; set sampler.step_gflops to a '
            'fraction of that range'
        )


def draw_number(iteration: int, batches_per_draw: int, per_rank: bool) -> int:
    """What to call a sampler with at an iteration: how many draws come before this one, over all ranks."""
    draw = iteration // batches_per_draw
    if not per_rank:
        return draw
    rank, num_ranks = get_dist_info()
    return draw * num_ranks + rank


def update_sampler(sampler: UniformSampler, route_id: int, loss: Tensor) -> None:
    """Give a sampler that learns the losses of all ranks, in one order, so that the ranks' samplers stay alike."""
    own = torch.stack([loss.new_tensor(route_id, dtype=torch.float64), loss.double()])
    for id_, value in (pair.tolist() for pair in all_gather(own)):
        if math.isfinite(value):
            sampler.update(int(id_), value)
