"""Which routes a training trains: all, those that are listed, or few that are chosen by looking at them."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.runner import Runner
from torch import nn

from mmsnnet.engine.batches import choose_images, training_batches
from mmsnnet.engine.randomness import seed_generators, seeded
from mmsnnet.engine.runners import unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.evaluation import SharedPrefixes
from mmsnnet.models import StitchedViT, find_backbone
from mmsnnet.stitching import Route
from mmsnnet.stitching.focus import FocusChoice, best_of_intervals, better_half, listed_routes, spread_scores
from mmsnnet.stitching.samplers import group_by_interval
from mmsnnet.stitching.selection import RouteSelection


class Focus:
    """The routes that a training trains.

    Where they are to be chosen, all routes train until that is done, before the first iteration or in rounds.

    Args:
        setting: ``focus`` of ``StitchSamplingHook``.

    Attributes:
        choice: how routes are chosen; None where the setting says which.
        routes: ids of those that train from the next iteration on; by rising id, known from ``start`` on.

    Raises:
        ValueError: an unknown key or value of a choice.
    """

    def __init__(self, setting: Mapping[str, Any] | RouteSelection | None) -> None:
        self.choice = FocusChoice.of(setting) if isinstance(setting, Mapping) else None
        self.routes: list[int] = []
        self._selection = 'all' if setting is None else setting
        self._gflops: Sequence[float] = ()
        self._seed = 0
        self._rounds: list[int] = []
        self._rounds_done = 0

    def start(
        self, runner: Runner, gflops: Sequence[float], seed: int, draw_every: int, state: dict | None = None
    ) -> None:
        """Find the routes that may train.

        Args:
            gflops: cost of each route, by id.
            seed: alike on all ranks.
            draw_every: number of iterations that train the same route. Rounds do not part them.
            state: ``state_dict`` of the run to resume. One of another choice is ignored.

        Raises:
            ValueError: unknown routes; more than there are; nothing to train.
        """
        backbone = find_backbone(runner.model)
        self._gflops, self._seed = gflops, seed
        if self.choice is None:
            routes = listed_routes(backbone.space, backbone.trainable_routes, self._selection, gflops)
            self.routes = sorted(_ids(routes))
            if self._selection != 'all':
                self._tell(runner, backbone, 'as listed')
            return
        routes = _candidates(self.choice, backbone)
        self.routes = _ids(routes)
        num_candidates = sum(route.kind != 'anchor' for route in routes)
        self._rounds = self.choice.rounds(num_candidates, runner.max_iters, draw_every)
        if state and state['choice'] == asdict(self.choice):
            self.routes = [backbone.space.find(name).id for name in state['routes']]
            self._rounds_done = state['rounds_done']
            self._tell(runner, backbone, f'by {self.choice.by}, as the checkpoint says')

    def choose(self, runner: Runner) -> bool:
        """Choose among the routes if the next iteration is one before which that is due; whether it was."""
        due = bisect_right(self._rounds, runner.iter)
        if due <= self._rounds_done:
            return False
        backbone, choice = find_backbone(runner.model), self.choice
        routes = [backbone.space[id_] for id_ in self.routes]
        switching, anchors = ([r for r in routes if (r.kind == 'anchor') is wanted] for wanted in (False, True))
        groups = _intervals(switching, backbone, self._gflops, choice.routes)
        if choice.by == 'spread':
            scores = spread_scores(groups, backbone.space, self._seed)
        else:
            scores = route_losses(runner, switching, choice.images, self._seed)
        is_last = due == len(self._rounds)
        chosen = (best_of_intervals if is_last else better_half)(groups, scores, choice.routes)
        self.routes = sorted([*chosen, *_ids(anchors)])
        self._rounds_done = due
        self._tell(runner, backbone, f'by {choice.by}', {} if choice.by == 'spread' else scores)
        return True

    def trained(self, backbone: StitchedViT) -> frozenset[int]:
        """Ids of the routes that are good for use after training: those of the focus, and of finished anchors."""
        return frozenset(self.routes) | (set(range(len(backbone.space))) - set(_ids(backbone.trainable_routes)))

    def state_dict(self, backbone: StitchedViT) -> dict:
        """Plain types, from which a resumed run continues; empty where nothing is chosen."""
        if self.choice is None:
            return {}
        names = [backbone.space[id_].name for id_ in self.routes]
        return {'choice': asdict(self.choice), 'routes': names, 'rounds_done': self._rounds_done}

    def _tell(self, runner: Runner, backbone: StitchedViT, how: str, losses: Mapping[int, float] | None = None) -> None:
        """Log the routes."""
        listed = ', '.join(
            backbone.space[id_].name + (f' (loss {losses[id_]:.4g})' if id_ in (losses or {}) else '')
            for id_ in self.routes
        )
        runner.logger.info(f'focus: {len(self.routes)} of {len(backbone.space)} routes {how}: {listed}')


@torch.no_grad()
def route_losses(runner: Runner, routes: Sequence[Route], num_images: int, seed: int) -> dict[int, float]:
    """The mean training loss of each route, by id, on a few training images. One that is not finite is infinite.

    Augmentations and what a loss draws at random are those of an image, alike for all routes. There is neither drop
    path nor dropout, and batch norms use their running statistics. Ranks share the images; all get equal results. These
    do not depend on the number of ranks, unless a loss itself averages over ranks, as DINO's.

    Args:
        num_images: over all ranks; at most all of them.
        seed: of the choice of images and of their augmentations.
    """
    model, dataset = unwrapped_model(runner), runner.train_dataloader.dataset
    backbone, indices = find_backbone(model), choose_images(dataset, num_images, seed)
    rank, num_ranks = get_dist_info()
    # Losses may wait for those of other ranks, so all ranks run equally often: some run an image that is not theirs.
    own = range(rank, rank + math.ceil(len(indices) / num_ranks) * num_ranks, num_ranks)
    own_indices = [indices[row % len(indices)] for row in own]
    losses = torch.zeros(max(own.stop, len(indices)), len(routes), dtype=torch.float64)
    before = backbone.route
    with _without_chance(model, backbone), seeded(seed), SharedPrefixes(backbone, routes) as sharing:
        for row, index, batch in zip(
            own, own_indices, training_batches(model, dataset, own_indices, seed), strict=True
        ):
            for route in sharing.visit():
                seed_generators(seed, index)
                with runner.optim_wrapper.optim_context(model):
                    # Not the model's own attribute: FiniteLossGuard may watch over it, and it is for training steps.
                    loss, _ = type(model).parse_losses(model, model(**batch, mode='loss'))
                losses[row, routes.index(route)] = loss.item()
    backbone.set_route(before)
    # Each number is of one rank, and zero on the others: their sum is exact.
    losses = losses[: len(indices)].contiguous()
    all_reduce(losses)
    means = losses.mean(dim=0)
    means[~means.isfinite()] = torch.inf
    return dict(zip(_ids(routes), means.tolist(), strict=True))


@contextmanager
def _without_chance(model: nn.Module, backbone: StitchedViT) -> Iterator[None]:
    """Training mode, in which all models can compute losses, but for drop path, dropout and batch statistics.

    Buffers are as before afterwards: some losses count the classes they have seen.
    """
    was_training = model.training
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    model.train()
    backbone.eval()
    for module in model.modules():
        # Attention of PyTorch drops weights itself, not by a child.
        if next(module.children(), None) is None or isinstance(module, nn.MultiheadAttention):
            module.eval()
    try:
        yield
    finally:
        model.train(was_training)
        for buffer, before in buffers.items():
            buffer.copy_(before)


def _candidates(choice: FocusChoice, backbone: StitchedViT) -> list[Route]:
    """Routes to choose from, and those of anchors that train in any case."""
    routes = backbone.trainable_routes
    anchors = [route for route in routes if route.kind == 'anchor']
    switching = [route for route in routes if route.kind != 'anchor']
    if choice.anchors and not anchors:
        raise UserError('focus.anchors=True has nothing to train: anchors of an exact model are finished; leave it out')
    if choice.routes > len(switching):
        raise UserError(
            f'focus.routes must be at most {len(switching)}, the number of routes with a switch, got {choice.routes}'
        )
    return routes if choice.anchors in (None, True) else switching


def _intervals(routes: Sequence[Route], backbone: StitchedViT, gflops: Sequence[float], count: int) -> list[list[int]]:
    """Ids of routes by equal parts of the range of costs between the anchors."""
    of_anchors = [gflops[id_] for id_ in range(len(backbone.anchors))]
    limits = min(of_anchors), max(of_anchors)
    groups = group_by_interval([gflops[route.id] for route in routes], count, limits)
    return [[routes[place].id for place in group] for group in groups]


def _ids(routes: Iterable[Route]) -> list[int]:
    return [route.id for route in routes]
