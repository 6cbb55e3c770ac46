"""The Pareto front: routes that no other route beats on both cost and metric."""

import math
from collections.abc import Sequence

from mmsnnet.errors import UserError


def pareto_front(costs: Sequence[float], metrics: Sequence[float]) -> list[int]:
    """Indices on the front by rising cost: each costs more than the one before and scores strictly higher.

    Raises:
        ValueError: the lengths differ.
    """
    if len(costs) != len(metrics):
        raise ValueError(f'one metric for each cost: got {len(costs)} costs and {len(metrics)} metrics')
    # Metrics that are not finite are on no front: NaN would break the sort, and nothing would beat infinity.
    valid = [index for index, metric in enumerate(metrics) if math.isfinite(metric)]
    front: list[int] = []
    for index in sorted(valid, key=lambda i: (costs[i], -metrics[i])):
        if not front or metrics[index] > metrics[front[-1]]:
            front.append(index)
    return front


def hypervolume(
    costs: Sequence[float], metrics: Sequence[float], max_cost: float, min_cost: float = 0.0, min_metric: float = 0.0
) -> float:
    """The mean, over budgets from ``min_cost`` to ``max_cost``, of the best metric that a budget buys.

    That is the area under the front's steps, above ``min_metric``, divided by the range of costs: in the metric's unit,
    and comparable between trainings over the same range. A budget that buys nothing counts ``min_metric``.

    Raises:
        ValueError: the range is empty.
    """
    if not min_cost < max_cost:
        raise UserError(f'max_cost must be above min_cost={min_cost}, got {max_cost}')
    steps = [(costs[index], metrics[index]) for index in pareto_front(costs, metrics)]
    area, best, position = 0.0, min_metric, min_cost
    for cost, metric in [*steps, (max_cost, best)]:
        edge = min(max(cost, min_cost), max_cost)
        area += (best - min_metric) * (edge - position)
        best, position = max(best, metric), edge
    return min_metric + area / (max_cost - min_cost)
