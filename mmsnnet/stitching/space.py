"""Routes and the stitch space: the sub-networks of a family of anchors, in a stable order (SN-Netv2, section 3.1)."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate, combinations, pairwise
from typing import NamedTuple

from mmsnnet.errors import UserError
from mmsnnet.settings import check_int

KINDS = ('anchor', 'SL', 'LS', 'LSL', 'SLS')


class Span(NamedTuple):
    """Blocks ``start`` (inclusive) to ``stop`` (exclusive) of one anchor, like a Python slice."""

    anchor: int
    start: int
    stop: int


class Entry(NamedTuple):
    """A way from the small into the large anchor: after ``stop`` blocks, through layer ``k``, on at block ``start``."""

    stop: int
    start: int
    k: int


@dataclass(frozen=True)
class Route:
    """The spans that one forward pass runs. The paper calls it a *stitch*."""

    id: int
    name: str
    kind: str
    spans: tuple[Span, ...]

    @property
    def log_name(self) -> str:
        """The name without the signs that some logging services (MLflow) refuse: ``s0-3.l6-24``."""
        return self.name.replace(']-', '.').replace('[', '').replace(':', '-').rstrip(']')

    def __str__(self) -> str:
        return self.name


def boundaries(small_depth: int, large_depth: int) -> tuple[int, ...]:
    """Blocks of the large anchor run at each boundary: ``b[k] = round(k * d1 / d0)`` for ``k = 0 .. d0``."""
    return tuple(round(k * large_depth / small_depth) for k in range(small_depth + 1))


def staged_boundaries(small: Sequence[int], large: Sequence[int]) -> tuple[int, ...]:
    """``boundaries`` within each stage, for numbers of blocks by stage: where one's stage ends, so does the other's."""
    staged = [0]
    for small_depth, large_depth in zip(small, large, strict=True):
        staged += [staged[-1] + b for b in boundaries(small_depth, large_depth)[1:]]
    return tuple(staged)


def sliding_window(depth: int, size: int) -> tuple[Entry, ...]:
    """Entries between two anchors of one depth, as SN-Net v1 has them for DeiT (section 3.4 of its paper).

    A window slides over the blocks of both anchors, one block at a time. Within it, any block of the small anchor may
    be followed by any of the large one. Entries that are new in a window share its layer.
    """
    return tuple(
        Entry(last + 1, first, max(last, first, size - 1) - size + 2)
        for last in range(depth)
        for first in range(depth)
        if abs(last - first) < size
    )


def staged_window(small: Sequence[int], large: Sequence[int]) -> tuple[Entry, ...]:
    """Entries between two anchors with stages, by their blocks, as SN-Net v1 has them for Swin.

    They lie inside of every stage but the last. In stages of one depth, a block of the small anchor is followed by the
    next one of the large. Else it is followed by those that it stands for. All entries behind a block share its layer.
    """
    entries = []
    small_offset = large_offset = 0
    for small_depth, large_depth in list(zip(small, large, strict=True))[:-1]:
        for block in range(1, large_depth):
            behind = block - 1 if small_depth == large_depth else block * small_depth // large_depth
            stop = small_offset + behind + 1
            entries.append(Entry(stop, large_offset + block, stop))
        small_offset, large_offset = small_offset + small_depth, large_offset + large_depth
    return tuple(entries)


class StitchSpace(Sequence[Route]):
    """All routes of anchors ordered from shallow (small) to deep (large).

    Routes are indexed by id: first the anchors, then for each pair of neighbours the kinds SL, LS, LSL, SLS, with the
    first switch in the outer loop. Depths 12/24 and 12/12 give the 134 routes of SN-Netv2, one way the 13 of SN-Net.

    Args:
        depths: number of blocks of each anchor, not decreasing; of an anchor with stages, the number of each of them. A
            single anchor has a single route.
        two_way: also leave the large anchor for the small one (SN-Netv2); otherwise small to large only (SN-Net v1).
        window: size of SN-Net v1's window, one way: ``sliding_window`` for anchors of one depth, ``staged_window`` for
            those with stages; None: one entry at each boundary. A window of 2 gives the 71 networks of three DeiTs of
            depth 12, and the 41 of Swin-Ti, -S and -B.

    Attributes:
        depths: number of blocks of each anchor.
        stages: for each anchor, the number of blocks of each stage.
        boundaries: for each pair of neighbours, the blocks of the large anchor that have run at each boundary.
        entries: for each pair of neighbours, the ways from the small into the large anchor.

    Raises:
        ValueError: no depths, a depth below 1, or depths that decrease; another number of stages; a window of another
            kind of space.
    """

    def __init__(self, depths: Sequence[int | Sequence[int]], two_way: bool = True, window: int | None = None) -> None:
        self.stages = tuple((depth,) if isinstance(depth, int) else tuple(depth) for depth in depths)
        _check_stages(self.stages)
        self.depths = tuple(map(sum, self.stages))
        if window is not None:
            _check_window(window, self.stages, two_way)
        self.is_two_way = two_way
        self.window = window
        self.boundaries = tuple(staged_boundaries(*pair) for pair in pairwise(self.stages))
        self.entries = tuple(self._entries(pair) for pair in range(len(self.boundaries)))
        self._routes = tuple(
            Route(id_, self._name(spans), kind, spans) for id_, (kind, spans) in enumerate(self._enumerate())
        )
        self._by_name = {route.name: route for route in self._routes}

    def __len__(self) -> int:
        return len(self._routes)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def __getitem__(self, index: int) -> Route:
        return self._routes[index]

    def __repr__(self) -> str:
        window = f', window={self.window}' if self.window else ''
        return f'StitchSpace({_shown(self.stages)}, two_way={self.is_two_way}{window}): {len(self)} routes'

    def find(self, route: int | str | Route) -> Route:
        """The route of an id, a name, or a route of an equal space.

        Raises:
            ValueError: this space has no such route.
        """
        if isinstance(route, Route):
            if self._by_name.get(route.name) != route:
                raise UserError(f'route {route.name!r} (id {route.id}) is not of this space: {self!r}')
            return route
        if isinstance(route, str):
            if route in self._by_name:
                return self._by_name[route]
            if not route.isdecimal():
                (similar,) = get_close_matches(route, self._by_name, n=1, cutoff=0)
                raise UserError(
                    f'unknown route {route!r}: this space has {len(self)} routes, ids 0..{len(self) - 1}, which '
                    f'tools/flops.py lists; did you mean {similar!r}?'
                )
            route = int(route)
        try:
            id_ = operator.index(route)
        except TypeError:
            raise UserError(f'a route is an id, a name or a Route, got {route!r}') from None
        if not 0 <= id_ < len(self):
            raise UserError(f'unknown route id {route}: this space has ids 0..{len(self) - 1}')
        return self[id_]

    def stage_of(self, anchor: int, block: int) -> int:
        """The stage of a block of an anchor."""
        return sum(end <= block for end in accumulate(self.stages[anchor]))

    def _entries(self, pair: int) -> tuple[Entry, ...]:
        small, large = self.stages[pair : pair + 2]
        if self.window:
            return sliding_window(sum(small), self.window) if len(small) == 1 else staged_window(small, large)
        b = self.boundaries[pair]
        return tuple(Entry(k, b[k], k) for k in range(1, sum(small)))

    def _name(self, spans: Sequence[Span]) -> str:
        letters = _letters(len(self.depths))
        return '-'.join(f'{letters[anchor]}[{start}:{stop}]' for anchor, start, stop in spans)

    def _enumerate(self) -> Iterator[tuple[str, tuple[Span, ...]]]:
        for anchor, depth in enumerate(self.depths):
            yield 'anchor', (Span(anchor, 0, depth),)
        for small, (small_depth, large_depth) in enumerate(pairwise(self.depths)):
            for stop, start, _ in self.entries[small]:
                yield 'SL', (Span(small, 0, stop), Span(small + 1, start, large_depth))
            if self.is_two_way:
                yield from _two_way(small, small_depth, large_depth, self.boundaries[small])


def last_anchor(route_name: str, num_anchors: int) -> int:
    """The anchor of the last span of a route's name.

    Raises:
        ValueError: no name of a route between so many anchors.
    """
    letters = _letters(num_anchors)
    letter = route_name.rpartition('-')[2].partition('[')[0]
    if letter not in letters:
        raise UserError(
            f'{route_name!r} names no route between {num_anchors} anchors: spans are like {letters[0]}[0:3]'
        )
    return letters.index(letter)


def _letters(num_anchors: int) -> list[str]:
    """What names of routes call the anchors, from small to large."""
    return list({1: 'a', 2: 'sl', 3: 'sml'}.get(num_anchors, ())) or [f'a{index}_' for index in range(num_anchors)]


def _shown(stages: Sequence[Sequence[int]]) -> tuple[int | Sequence[int], ...]:
    """Depths as they are given: a number where there is one stage."""
    return tuple(depths if len(depths) > 1 else depths[0] for depths in stages)


def _check_stages(stages: Sequence[Sequence[int]]) -> None:
    if not stages:
        raise UserError('a stitch space needs the depths of its anchors, got none')
    if len(set(map(len, stages))) > 1:
        raise UserError(f'anchors must have the same number of stages, got blocks by stage {_shown(stages)}')
    if min(map(min, stages)) < 1:
        raise UserError(f'every anchor needs one block or more in every stage, got depths {_shown(stages)}')
    if any(first > second for pair in pairwise(stages) for first, second in zip(*pair, strict=True)):
        raise UserError(f'anchors go from small to large, their depths must not decrease: got {_shown(stages)}')


def _check_window(window: int, stages: Sequence[Sequence[int]], two_way: bool) -> None:
    has_stages = len(stages[0]) > 1
    high, meaning = (2, 'the one that anchors with stages have') if has_stages else (stages[0][0], 'at most the depth')
    check_int('window', window, high if has_stages else 1, high, meaning)
    if two_way or (not has_stages and len(set(stages)) > 1):
        raise UserError(
            f'window={window} is for anchors of one depth or with stages, one way: got depths {_shown(stages)} and '
            f'two_way={two_way}; set two_way=False, or leave out window'
        )


def _two_way(
    small: int, small_depth: int, large_depth: int, b: Sequence[int]
) -> Iterator[tuple[str, tuple[Span, ...]]]:
    """Kinds and spans of the routes between two neighbours in size that leave the large anchor."""
    large = small + 1
    switches = range(1, small_depth)
    for k in switches:
        yield 'LS', (Span(large, 0, b[k]), Span(small, k, small_depth))
    for j, k in combinations(switches, 2):
        yield 'LSL', (Span(large, 0, b[j]), Span(small, j, k), Span(large, b[k], large_depth))
    for j, k in combinations(switches, 2):
        yield 'SLS', (Span(small, 0, j), Span(large, b[j], b[k]), Span(small, k, small_depth))
