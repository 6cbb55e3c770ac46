"""How long does picking a route for a budget take?

$ python -m tools.benchmarks.pick_route --out docs/benchmarks/pick_route.json

A BudgetTable against ``select``, which reads all records each time. Both pick a route of 134 random records for the
same 1000 random budgets. In real records metric and cost agree more, so that fewer of them are candidates. The table
should be at least 10 times as fast. Times are of all 1000 budgets: the milliseconds are microseconds for each.
"""

import random
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from mmsnnet.stitching import BudgetTable, Record, select
from tools.benchmarks.common import Bound, Comparison, benchmark, compare

BOUND = Bound('>=', 10)
COSTS = ('gflops', 'latency_ms', 'memory_mb')
NUM_RECORDS, NUM_BUDGETS = 134, 1000


def random_records(rng: random.Random) -> list[Record]:
    """The first record costs nothing, so that every budget has a route."""
    costs = [(0.0, 0.0, 0.0), *(tuple(rng.random() for _ in COSTS) for _ in range(NUM_RECORDS - 1))]
    return [
        Record(id_, f'r{id_}', 'SL', gflops, 1.0, {'mIoU': rng.random()}, latency_ms, 0.0, memory_mb)
        for id_, (gflops, latency_ms, memory_mb) in enumerate(costs)
    ]


def pick_all(pick: Callable[..., Record], budgets: Sequence[dict[str, float]]) -> tuple[Tensor]:
    """Ids of the routes (N,) picked for N budgets."""
    return (torch.tensor([float(pick(**budget).id) for budget in budgets]),)


def run_benchmark(args: Namespace) -> list[Comparison]:
    rng = random.Random(0)
    records = random_records(rng)
    comparisons = []
    for count in range(1, len(COSTS) + 1):
        budgets = [{cost: rng.random() for cost in COSTS[:count]} for _ in range(NUM_BUDGETS)]
        contestants = {
            'select': partial(pick_all, partial(select, records), budgets),
            'BudgetTable': partial(pick_all, BudgetTable(records).best, budgets),
        }
        comparisons.append(compare(f'{count} costs, {NUM_BUDGETS} budgets', contestants, args, BOUND))
    return comparisons


main = benchmark(__file__, __doc__, run_benchmark, has_model=False, repetitions=7)


if __name__ == '__main__':
    main()
