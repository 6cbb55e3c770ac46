"""Which routes to evaluate."""

import re
from collections.abc import Collection, Sequence

from mmsnnet.errors import UserError
from mmsnnet.settings import check_int
from mmsnnet.stitching.records import Record, front_records, main_metric, read_records
from mmsnnet.stitching.space import Route, StitchSpace

RouteSelection = str | int | Sequence[int | str]

SELECTIONS = (
    "'all'; 'anchors'; 'trained', those that training has trained, and finished anchors; a number of routes, spread "
    "evenly over the cost range; 'budget:LO-HI', those that cost LO to HI GFLOPs; 'front:FILE', the Pareto front of "
    'the records in a file; or ids and names'
)


def select_routes(
    space: StitchSpace, routes: RouteSelection, gflops: Sequence[float], trained: Collection[int] | None = None
) -> list[Route]:
    """Routes of a selection, without repeats.

    Args:
        routes: see ``SELECTIONS``.
        gflops: cost of each route, by id.
        trained: ids of the routes that were trained, if that is known.

    Raises:
        ValueError: an unknown word, id or name; nothing selected; ``'trained'`` where that is not known; N below 1 or
            above the number of routes.
        FileNotFoundError: no such records.
    """
    if routes == 'all':
        return list(space)
    if routes == 'anchors':
        return [route for route in space if route.kind == 'anchor']
    if routes == 'trained':
        if trained is None:
            raise UserError(
                "routes='trained', but the checkpoint does not say which were trained: it is from before training, or "
                "the config has no StitchSamplingHook; take 'all', or ids and names"
            )
        return [space[id_] for id_ in sorted(trained)]
    if isinstance(routes, int):
        return _spread(space, check_int('a number of routes', routes, 1, len(space)), gflops)
    if isinstance(routes, str):
        word, _, argument = routes.partition(':')
        if word == 'budget':
            return _within(space, argument, gflops)
        if word == 'front':
            return _front(space, argument)
        if word.isalpha():
            raise UserError(f'routes cannot be {routes!r}: give {SELECTIONS}')
        routes = [routes]
    if not isinstance(routes, Sequence):
        raise UserError(f'routes cannot be {routes!r}: give {SELECTIONS}')
    selected = list(dict.fromkeys(space.find(route) for route in routes))
    if not selected:
        raise UserError(f'routes={routes!r} selects none: give {SELECTIONS}')
    return selected


def parse_selection(words: Sequence[str]) -> RouteSelection:
    """The selection that the words of a command line mean. A number alone is a number of routes, ``id:17`` an id."""
    (first, *others) = words
    if not others and first.isdecimal():
        return int(first)
    if not others and (first in ('all', 'anchors', 'trained') or first.startswith(('budget:', 'front:'))):
        return first
    return [word.removeprefix('id:') for word in words]


def _within(space: StitchSpace, limits: str, gflops: Sequence[float]) -> list[Route]:
    """Routes that cost LO to HI GFLOPs."""
    number = r'(\d+(?:\.\d*)?)'
    match = re.fullmatch(f'{number}-{number}', limits)
    if not match:
        raise UserError(f"a budget is two GFLOPs, 'budget:LO-HI' such as 'budget:50-120', got {limits!r}")
    low, high = map(float, match.groups())
    selected = [route for route in space if low <= gflops[route.id] <= high]
    if not selected:
        raise UserError(
            f'no route costs {low:g} to {high:g} GFLOPs: this space has {min(gflops):.4g} to {max(gflops):.4g}'
        )
    return selected


def _front(space: StitchSpace, path: str) -> list[Route]:
    """Routes on the Pareto front of records."""
    records = read_records(path)
    metric = main_metric(records)
    if metric is None:
        raise UserError(f'{path} has no metrics, so it has no front: write it with tools/benchmark.py or tools/test.py')
    return [route_of(space, record) for record in front_records(records, metric)]


def route_of(space: StitchSpace, record: Record) -> Route:
    """The route that a record is about.

    Raises:
        ValueError: the record is of another space.
    """
    if record.id >= len(space) or space[record.id].name != record.name:
        raise UserError(f'record {record.id} {record.name!r} is not of this space: {space!r}')
    return space[record.id]


def _spread(space: StitchSpace, count: int, gflops: Sequence[float]) -> list[Route]:
    """``count`` routes of evenly spaced costs, from the cheapest to the most expensive."""
    low, high = min(gflops), max(gflops)
    left = set(range(len(space)))
    selected = []
    for step in range(count):
        target = low + (high - low) * step / max(count - 1, 1)
        nearest = min(left, key=lambda id_: (abs(gflops[id_] - target), id_))
        left.remove(nearest)
        selected.append(space[nearest])
    return selected
