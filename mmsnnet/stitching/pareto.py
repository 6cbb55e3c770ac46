"""The Pareto front: routes that no other route beats on both cost and metric."""

import math
from collections.abc import Sequence


def pareto_front(costs: Sequence[float], metrics: Sequence[float]) -> list[int]:
    """Indices on the front by rising cost: each costs more than the one before and scores strictly higher.

    Raises:
        ValueError: the lengths differ.
    """
    if len(costs) != len(metrics):
        raise ValueError(f'one metric for each cost: got {len(costs)} costs and {len(metrics)} metrics')
    # A NaN, a metric that broke, is on no front: it would also upset the sort.
    valid = [index for index, metric in enumerate(metrics) if not math.isnan(metric)]
    front: list[int] = []
    for index in sorted(valid, key=lambda i: (costs[i], -metrics[i])):
        if not front or metrics[index] > metrics[front[-1]]:
            front.append(index)
    return front
