"""The Pareto front: routes that no other route beats on both cost and metric."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], metrics: Sequence[float]) -> list[int]:
    """Indices on the front by rising cost: each costs more than the one before and scores strictly higher.

    Raises:
        ValueError: the lengths differ.
    """
    if len(costs) != len(metrics):
        raise ValueError(f'one metric for each cost: got {len(costs)} costs and {len(metrics)} metrics')
    front: list[int] = []
    # NaN scores compare false with everything, so a broken metric never enters the front.
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -metrics[i])):
        if metrics[index] == metrics[index] and (not front or metrics[index] > metrics[front[-1]]):
            front.append(index)
    return front
