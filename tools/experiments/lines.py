"""How routes compare with the mixing line: what two models reach if one runs on some images, the other on the rest."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import mean
from typing import NamedTuple


class Point(NamedTuple):
    """What a model costs and scores; more is better."""

    gflops: float
    score: float


# Points by rising cost, with straight lines between them.
Line = Sequence[Point]


def height(line: Line, gflops: float) -> float:
    """The score of a line at a cost that it covers.

    Raises:
        ValueError: it does not cover that cost.
    """
    for (left, low), (right, high) in pairwise(line):
        if left <= gflops <= right:
            return low + (high - low) * (gflops - left) / (right - left)
    raise ValueError(f'{gflops} GFLOPs are outside of {line[0].gflops} to {line[-1].gflops}')


def upper_hull(points: Sequence[Point]) -> list[Point]:
    """What mixing some models reaches: the concave line above all of them, from the cheapest to the most expensive."""
    hull: list[Point] = []
    # Of points that cost the same, the best comes last, and takes the place of the others.
    for point in sorted(points):
        if hull and hull[-1].gflops == point.gflops:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return hull


def mean_difference(first: Line, second: Line) -> float:
    """Mean of the first line minus the second over all costs that both cover."""
    low, high = max(first[0].gflops, second[0].gflops), min(first[-1].gflops, second[-1].gflops)
    bends = [point.gflops for line in (first, second) for point in line if low < point.gflops < high]
    costs = sorted({low, *bends, high})
    # Between two bends, the difference is straight.
    gaps = [height(first, cost) - height(second, cost) for cost in costs]
    areas = [(right - left) * mean(ends) for (left, right), ends in zip(pairwise(costs), pairwise(gaps), strict=True)]
    return sum(areas) / (high - low)


def share_below(points: Sequence[Point], score: float) -> float:
    """Share of points with a lower score."""
    return mean(point.score < score for point in points)


def share_on_or_above(points: Sequence[Point], line: Line) -> float:
    """Share of points that are not below a line, which covers their costs."""
    return mean(point.score >= height(line, point.gflops) for point in points)


def _slope(left: Point, right: Point) -> float:
    return (right.score - left.score) / (right.gflops - left.gflops)
