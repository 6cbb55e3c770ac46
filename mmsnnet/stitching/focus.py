"""Which few routes to train: the best of each part of the range of costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from mmsnnet.errors import UserError
from mmsnnet.settings import check_int, check_number, check_word
from mmsnnet.stitching.selection import RouteSelection, select_routes
from mmsnnet.stitching.space import KINDS, Route, StitchSpace

WAYS = ('spread', 'loss', 'halving')


@dataclass(frozen=True)
class FocusChoice:
    """How to choose the routes to train. The range of costs between the anchors is cut into equal intervals, one for
    each route that is wanted, and each gives its best route. A place that an interval cannot fill goes to the interval
    with the most routes left.

    Losses are those that training minimises, of all heads together. They are compared as they are: routes of all kinds
    and exits have the same task and the same images. More expensive routes tend to have lower ones, so routes only
    compete with those of their own interval, except for places that others cannot fill.

    Attributes:
        routes: how many routes with a switch.
        by: ``'loss'``: the lowest loss on some training images after the least-squares start. ``'halving'``: all train
            at first; in several rounds, those with the lower loss in their interval stay. ``'spread'``: drawn by seed,
            kinds in turn, without a look at the data: a baseline.
        images: training images that losses are measured on, over all ranks; at most all of them.
        until: the share of training after which ``'halving'`` has its last round. Each round but the last leaves about
            half of the routes; rounds are equally far apart.
        anchors: whether routes of anchors train, too. None: yes, unless anchors are finished.
    """

    routes: int
    by: str = 'loss'
    images: int = 32
    until: float = 0.3
    anchors: bool | None = None

    def __post_init__(self) -> None:
        check_int('focus.routes', self.routes, 1)
        check_word('focus.by', self.by, WAYS)
        check_int('focus.images', self.images, 1)
        if check_number('focus.until', self.until, above=0) >= 1:
            raise UserError(f'focus.until must be a share of training, above 0 and below 1, got {self.until}')
        check_word('focus.anchors', self.anchors, (None, True, False))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> 'FocusChoice':
        """A choice of a config's settings.

        Raises:
            ValueError: an unknown key, no number of routes, or a value that is not allowed.
        """
        for key in settings:
            check_word('a key of focus', key, [field.name for field in fields(cls)])
        if 'routes' not in settings:
            raise UserError("focus needs the number of routes: dict(routes=8, by='loss')")
        return cls(**settings)

    def rounds(self, num_candidates: int, num_iterations: int, multiple: int = 1) -> list[int]:
        """The iterations before which routes are chosen.

        Args:
            num_candidates: routes to choose from.
            num_iterations: of the whole training.
            multiple: iterations are multiples of it.

        Raises:
            ValueError: no iteration is left after the last round.
        """
        if self.by != 'halving':
            return [0]
        count = max(1, math.ceil(math.log2(num_candidates / self.routes)))
        last = self.until * num_iterations
        rounds = [math.ceil(last * turn / count / multiple) * multiple for turn in range(1, count + 1)]
        if rounds[-1] >= num_iterations:
            raise UserError(
                f'focus.until={self.until} leaves none of the {num_iterations} iterations after the last round: lower '
                'it, or train longer'
            )
        return rounds


def listed_routes(
    space: StitchSpace, trainable: Sequence[Route], focus: RouteSelection, gflops: Sequence[float]
) -> list[Route]:
    """The routes that a list or a word, as ``select_routes`` takes it, names to be trained.

    Args:
        trainable: those that have something to train. A word selects among them.

    Raises:
        ValueError: an unknown route or word; a number; a route that has nothing to train; none is left.
    """
    if isinstance(focus, int):
        raise UserError(f"focus={focus!r} does not say which routes: give dict(routes={focus!r}, by='loss'), or a list")
    routes = select_routes(space, focus, gflops)
    left = [route for route in routes if route in trainable]
    is_word = isinstance(focus, str) and focus not in (route.name for route in routes)
    if not left or (len(left) < len(routes) and not is_word):
        finished = ', '.join(route.name for route in routes if route not in trainable)
        raise UserError(
            f'focus={focus!r} has nothing to train in {finished}: anchors of an exact model are finished; name routes '
            'with a switch'
        )
    return left


def best_of_intervals(groups: Sequence[Sequence[int]], scores: Mapping[int, Any], count: int) -> list[int]:
    """The best ids of each interval, ``count`` in all. See ``FocusChoice`` for how many each interval gives.

    Args:
        groups: ids by interval, none empty, no more groups than ``count``.
        scores: by id; lower is better, and of equal ones the lower id.
    """
    return _best(groups, scores, _shares(groups, count))


def better_half(groups: Sequence[Sequence[int]], scores: Mapping[int, Any], count: int) -> list[int]:
    """The better half of each interval, and no fewer than ``best_of_intervals`` would choose."""
    shares = _shares(groups, count)
    return _best(groups, scores, [max(share, -(-len(group) // 2)) for share, group in zip(shares, groups, strict=True)])


def spread_scores(groups: Sequence[Sequence[int]], space: StitchSpace, seed: int) -> dict[int, tuple[int, float]]:
    """Scores with which each interval gives a random route of the kind whose turn it is, or of the next kind it has."""
    random = Random(f'focus:{seed}')
    return {
        id_: ((KINDS.index(space[id_].kind) - 1 - turn) % (len(KINDS) - 1), random.random())
        for turn, group in enumerate(groups)
        for id_ in group
    }


def _shares(groups: Sequence[Sequence[int]], count: int) -> list[int]:
    """How many routes each interval gives."""
    shares = [1] * len(groups)
    while sum(shares) < count:
        left = [len(group) - share for group, share in zip(groups, shares, strict=True)]
        shares[left.index(max(left))] += 1
    return shares


def _best(groups: Sequence[Sequence[int]], scores: Mapping[int, Any], sizes: Sequence[int]) -> list[int]:
    chosen = [
        id_
        for group, size in zip(groups, sizes, strict=True)
        for id_ in sorted(group, key=lambda id_: (scores[id_], id_))[:size]
    ]
    return sorted(chosen)
