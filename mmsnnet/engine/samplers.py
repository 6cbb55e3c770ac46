"""Samplers of routes as a training uses them: registered, built, and alike on all ranks."""

import math
from collections.abc import Sequence
from dataclasses import replace
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


class FocusedSampler:
    """Draws among some routes with a sampler that knows them by their place in a list.

    Every sampler then works as if there were no others.

    Args:
        cfg: of ``mmsnnet.ROUTE_SAMPLERS``. ``records`` may be a file of them.
        space: of the routes.
        gflops: cost of each route of the space, by id.
        seed: of the draw.
        ids: of the routes to draw.

    Raises:
        ValueError: records of another space.
        FileNotFoundError: no such file of records.
    """

    def __init__(self, cfg: dict, space: StitchSpace, gflops: Sequence[float], seed: int, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.gflops = [gflops[id_] for id_ in self.ids]
        settings = {'_scope_': 'mmsnnet', 'gflops': self.gflops, 'seed': seed, **cfg}
        if isinstance(settings.get('records'), str):
            settings['records'] = read_records(settings['records'])
        if settings.get('records'):
            of_routes = {route_of(space, record).id: record for record in settings['records']}
            places = {id_: place for place, id_ in enumerate(self.ids)}
            settings['records'] = [
                replace(record, id=places[id_]) for id_, record in of_routes.items() if id_ in places
            ]
        self.sampler: UniformSampler = ROUTE_SAMPLERS.build(settings)

    def __call__(self, draw: int) -> int:
        """Route id to train."""
        return self.ids[self.sampler(draw)]

    def update(self, route_id: int, loss: Tensor) -> None:
        """Give a sampler that learns the losses of all ranks, in one order, so that the ranks' samplers stay alike."""
        if not hasattr(self.sampler, 'update'):
            return
        own = torch.stack([loss.new_tensor(route_id, dtype=torch.float64), loss.double()])
        for id_, value in (pair.tolist() for pair in all_gather(own)):
            if math.isfinite(value):
                self.sampler.update(self.ids.index(int(id_)), value)

    def state_dict(self) -> dict:
        """What the sampler has learnt; empty for one that learns nothing."""
        return {'ids': self.ids, **self.sampler.state_dict()} if hasattr(self.sampler, 'state_dict') else {}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a ``state_dict``, unless it is of other routes."""
        if state.get('ids') == self.ids:
            self.sampler.load_state_dict({key: value for key, value in state.items() if key != 'ids'})


def warn_of_one_group(sampler: FocusedSampler, cfg: dict, logger: Logger) -> None:
    """Warn where ``step_gflops`` is too large to part the routes."""
    gflops = sampler.gflops
    if len(getattr(sampler.sampler, 'groups', ())) == 1 < len(gflops) and 'step_gflops' in cfg:
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
