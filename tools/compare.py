"""Compare the fronts of two benchmarks of the same data, for instance of two trainings.

$ python tools/compare.py baseline/stitches.json mine/stitches.json

The hypervolume is the mean, over all budgets in the range of both, of the best metric within a budget. It has the
metric's unit and direction. A route is dominated if another route of its own benchmark costs no more and scores at
least as well. It is beaten if a route of the other benchmark costs no more and scores better.
"""

import argparse
import math
from collections.abc import Sequence

from mmsnnet.cli import command
from mmsnnet.errors import UserError
from mmsnnet.stitching import Record, direction, front_records, hypervolume, main_metric, read_records
from mmsnnet.stitching.records import COSTS


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('records', nargs=2, metavar='FILE', help='stitches.json')
    parser.add_argument('--metric', help='default: mIoU, box AP, RMSE of depth or top-1 accuracy')
    parser.add_argument('--cost', choices=COSTS, default='gflops', help='what the fronts are over (gflops)')
    args = parser.parse_args()
    benchmarks = [read_records(path) for path in args.records]
    metric = args.metric or main_metric(benchmarks[0])
    if metric is None:
        raise UserError(f'{args.records[0]} has no metrics to compare: write it with tools/benchmark.py')
    fronts = [front_records(records, metric, args.cost) for records in benchmarks]
    costs = [getattr(record, args.cost) for records in benchmarks for record in records]
    # From the first budget that buys something in both.
    low, high = max(getattr(front[0], args.cost) for front in fronts), max(costs)
    print(f'{metric} over {args.cost} from {low:.4g} to {high:.4g}')
    print(f'{"routes":>9s} {"on front":>9s} {"dominated":>10s} {"beaten":>7s} {"hypervolume":>12s}')
    for path, records, front, other in zip(args.records, benchmarks, fronts, fronts[::-1], strict=True):
        costs, scores = columns(records, args.cost, metric)
        worst = min(filter(math.isfinite, scores), default=0.0)
        volume = direction(metric) * hypervolume(costs, scores, high, low, worst)
        beaten = sum(beats(other, record, args.cost, metric) for record in records)
        dominated = len(records) - len(front)
        print(f'{len(records):9d} {len(front):9d} {dominated:10d} {beaten:7d} {volume:12.4g}  {path}')


def columns(records: Sequence[Record], cost: str, metric: str) -> tuple[list[float], list[float]]:
    return [getattr(record, cost) for record in records], [record.score(metric) for record in records]


def beats(front: Sequence[Record], record: Record, cost: str, metric: str) -> bool:
    """Whether some record of a front costs no more than ``record`` and scores better."""
    return any(
        getattr(rival, cost) <= getattr(record, cost) and rival.score(metric) > record.score(metric) for rival in front
    )


if __name__ == '__main__':
    main()
