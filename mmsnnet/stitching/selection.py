"""Which routes to evaluate."""

from collections.abc import Sequence

from mmsnnet.stitching.space import Route, StitchSpace

RouteSelection = str | int | Sequence[int | str]


def select_routes(space: StitchSpace, routes: RouteSelection, gflops: Sequence[float]) -> list[Route]:
    """Routes of a selection, without repeats.

    Args:
        routes: ``'all'``, ``'anchors'``, a number N of routes spread evenly over the cost range, or ids and names.
        gflops: cost of each route, by id.

    Raises:
        ValueError: an unknown word, id or name; nothing selected; N below 1 or above the number of routes.
    """
    if routes == 'all':
        return list(space)
    if routes == 'anchors':
        return [route for route in space if route.kind == 'anchor']
    if isinstance(routes, int):
        return _spread(space, routes, gflops)
    if isinstance(routes, str):
        routes = [routes]
    selected = list(dict.fromkeys(space.find(route) for route in routes))
    if not selected:
        raise ValueError("no routes selected: give 'all', 'anchors', a number of routes, or a list of ids or names")
    return selected


def _spread(space: StitchSpace, count: int, gflops: Sequence[float]) -> list[Route]:
    """``count`` routes whose costs are nearest to evenly spaced ones, cheapest and dearest included."""
    if not 1 <= count <= len(space):
        raise ValueError(f'cannot select {count} routes: this space has {len(space)}; give a number from 1 to that')
    low, high = min(gflops), max(gflops)
    left = set(range(len(space)))
    selected = []
    for step in range(count):
        target = low + (high - low) * step / max(count - 1, 1)
        nearest = min(left, key=lambda id_: (abs(gflops[id_] - target), id_))
        left.remove(nearest)
        selected.append(space[nearest])
    return selected
