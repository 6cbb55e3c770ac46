import math
import random
from collections.abc import Sequence

import pytest

from mmsnnet.stitching import hypervolume, pareto_front

NAN = float('nan')


def beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] <= second[0] and first[1] >= second[1] and first != second


def brute_force(costs: Sequence[float], metrics: Sequence[float]) -> list[int]:
    """Points that no other point beats, the first of equal ones, by rising cost."""
    points = list(zip(costs, metrics, strict=True))
    valid = [point for point in points if math.isfinite(point[1])]
    front = {point for point in valid if not any(beats(other, point) for other in valid)}
    return [points.index(point) for point in sorted(front)]


def random_points(seed: int, share_broken: float = 0.0) -> tuple[list[float], list[float]]:
    """Points on a coarse lattice: many ties in cost, in metric, and in both."""
    rng = random.Random(seed)
    costs = [float(rng.randint(0, 8)) for _ in range(rng.randint(0, 40))]
    broken = [math.nan, math.inf, -math.inf]
    return costs, [rng.choice(broken) if rng.random() < share_broken else float(rng.randint(0, 8)) for _ in costs]


@pytest.mark.parametrize('seed', range(50))
def test_is_what_nothing_beats(seed):
    costs, metrics = random_points(seed)
    assert pareto_front(costs, metrics) == brute_force(costs, metrics)


@pytest.mark.parametrize('seed', range(50))
def test_broken_metrics_never_enter_nor_disturb(seed):
    costs, metrics = random_points(seed, share_broken=0.3)
    assert pareto_front(costs, metrics) == brute_force(costs, metrics)


@pytest.mark.parametrize(
    ('costs', 'metrics', 'front'),
    [
        ([], [], []),
        ([3], [1], [0]),
        ([3, 1, 2], [30, 10, 20], [1, 2, 0]),
        ([1, 2, 3], [30, 20, 10], [0]),
        ([1, 1, 1], [5, 7, 7], [1]),
        ([1, 2], [5, 5], [0]),
        ([1, 2], [NAN, 5], [1]),
        ([1, 2], [NAN, NAN], []),
    ],
)
def test_front(costs, metrics, front):
    assert pareto_front(costs, metrics) == front


def test_refuses_lengths_that_differ():
    with pytest.raises(ValueError, match='2 costs and 1 metrics'):
        pareto_front([1, 2], [1])


def test_hypervolume_is_the_mean_of_what_budgets_buy():
    costs, metrics = [1, 2, 3, 8], [30, 20, 50, 60]
    assert hypervolume(costs, metrics, max_cost=3) == pytest.approx((0 * 1 + 30 * 2) / 3)
    assert hypervolume(costs, metrics, max_cost=10) == pytest.approx((30 * 2 + 50 * 5 + 60 * 2) / 10)
    assert hypervolume(costs, metrics, min_cost=4, max_cost=6) == pytest.approx(50)
    assert hypervolume(costs, metrics, min_cost=1, max_cost=3, min_metric=25) == pytest.approx(30)
    assert hypervolume([5], [40], max_cost=2) == 0
    # Budgets, tried one by one.
    budgets = [0.001 * step for step in range(10_000)]
    best = [max([m for c, m in zip(costs, metrics, strict=True) if c <= budget], default=0) for budget in budgets]
    assert hypervolume(costs, metrics, max_cost=10) == pytest.approx(sum(best) / len(best), rel=1e-3)


def test_dominated_points_add_nothing_to_the_hypervolume():
    assert hypervolume([1, 2], [30, 20], max_cost=4) == hypervolume([1], [30], max_cost=4)
    with pytest.raises(ValueError, match='max_cost must be above'):
        hypervolume([1], [1], max_cost=0)
