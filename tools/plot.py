"""Draw the Pareto plot of records, with the anchors' own results as stars.

$ python tools/plot.py stitches.json --alone small/stitches.json large/stitches.json --out pareto.png
"""

import argparse

from mmsnnet.cli import command
from mmsnnet.evaluation import plot_pareto
from mmsnnet.stitching import main_metric, read_records


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('records', help='stitches.json of a stitched model')
    parser.add_argument('--alone', nargs='*', default=[], help='stitches.json of anchors that were trained alone')
    parser.add_argument('--metric', help='what to plot over GFLOPs (default: mIoU or box AP)')
    parser.add_argument('--out', default='pareto.png', help='image file to write (pareto.png)')
    args = parser.parse_args()
    records = read_records(args.records)
    alone = [record for path in args.alone for record in read_records(path)]
    metric = args.metric or main_metric(records)
    for path, record in zip(args.alone, alone, strict=False):
        print(f'  trained alone: {record.gflops:9.4g} GFLOPs  {metric} {record.metrics[metric]:.4g}  {path}')
    plot_pareto(records, metric, args.out, alone)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
