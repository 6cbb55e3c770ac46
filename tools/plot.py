"""Draw the Pareto plot of records, with the anchors' own results as stars.

$ python tools/plot.py stitches.json --alone small/stitches.json large/stitches.json --out pareto.png
"""

import argparse
from pathlib import Path

from mmsnnet.cli import command
from mmsnnet.errors import UserError
from mmsnnet.evaluation import plot_pareto
from mmsnnet.stitching import Record, main_metric, read_records

ENDINGS = ('.png', '.svg', '.pdf')


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('records', help='stitches.json of a stitched model')
    parser.add_argument('--alone', nargs='*', default=[], help='stitches.json of anchors that were trained alone')
    parser.add_argument(
        '--metric', help='what to plot over GFLOPs (default: mIoU, box AP, RMSE of depth or top-1 accuracy)'
    )
    parser.add_argument('--out', default='pareto.png', help='image file to write (pareto.png)')
    args = parser.parse_args()
    if Path(args.out).suffix not in ENDINGS:
        parser.error(f'--out must end in one of {" ".join(ENDINGS)}, got {args.out}')
    records = read_records(args.records)
    metric = args.metric or main_metric(records)
    if metric is None:
        raise UserError(f'{args.records} has no metrics to plot: write it with tools/benchmark.py or tools/test.py')
    alone = [read_alone(path) for path in args.alone]
    for path, record in zip(args.alone, alone, strict=True):
        print(f'  trained alone: {record.gflops:9.4g} GFLOPs  {metric} {record.metrics[metric]:.4g}  {path}')
    plot_pareto(records, metric, args.out, alone)
    print(f'wrote {args.out}')


def read_alone(path: str) -> Record:
    """The one record of a model that is not stitched."""
    records = read_records(path)
    if len(records) != 1:
        raise UserError(f'--alone takes records of single anchors, {path} has {len(records)} of a stitched model')
    return records[0]


if __name__ == '__main__':
    main()
