"""Evaluate every route of a trained model in one pass over the data, time them, and report which to deploy.

$ python tools/benchmark.py CONFIG CHECKPOINT --out benchmark
$ python tools/benchmark.py CONFIG CHECKPOINT --out benchmark --latency
$ python tools/benchmark.py CONFIG CHECKPOINT --out benchmark --pictures 4
$ torchrun --nproc_per_node 8 tools/benchmark.py CONFIG CHECKPOINT --out benchmark --launcher pytorch

Writes stitches.json, stitches.csv, pareto.png, pareto.svg and report.html, which opens in a browser, offline.
An interrupted call can be resumed with --resume.
"""

import argparse
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmsnnet.building import build_runner
from mmsnnet.cli import (
    add_evaluation_options,
    command,
    enter_evaluation,
    load_runner_config,
    make_stitched,
    runner_parser,
)
from mmsnnet.engine import RoutesProgress, check_data_folders, picture_routes
from mmsnnet.evaluation import format_table, write_full_report
from mmsnnet.settings import check_int
from mmsnnet.stitching import Record, main_metric, read_records


def parse_args() -> argparse.Namespace:
    parser = runner_parser(__doc__, work_dir='DIR/log')
    add_evaluation_options(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for everything this writes')
    parser.add_argument('--resume', action='store_true', help='resume an interrupted call from what is in DIR')
    parser.add_argument('--metric', help='what to rank by (default: mIoU, box AP, RMSE of depth or top-1 accuracy)')
    parser.add_argument(
        '--alone', nargs='*', default=[], metavar='FILE', help='stitches.json of anchors trained alone, to compare with'
    )
    parser.add_argument(
        '--pictures',
        type=int,
        metavar='N',
        help='show N images in report.html, with the ground truth and what every route predicts: a slider goes over '
        'the Pareto front, a click on a dot shows any route (default: none)',
    )
    evaluation = parser.add_argument_group('evaluation (default: as the config says)')
    evaluation.add_argument('--memory-budget', type=float, metavar='MIB', help='for tokens that routes share (2048)')
    evaluation.add_argument(
        '--route-batch', type=int, metavar='N', help='routes that run as one batch, to fill a GPU (1)'
    )
    evaluation.add_argument(
        '--skip-unreadable', action='store_true', help='skip and report images that cannot be loaded'
    )
    latency = parser.add_argument_group('latency')
    latency.add_argument(
        '--latency',
        nargs='?',
        const='measure',
        choices=['measure', 'estimate'],
        help='time every route on this device, or estimate from the times of blocks, in seconds instead of minutes',
    )
    latency.add_argument('--batch-size', type=int, help='images per pass (1)')
    latency.add_argument(
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help="input size (default: the config's)"
    )
    latency.add_argument('--compile', action='store_true', help='compile every block with torch.compile first')
    latency.add_argument(
        '--cuda-graph', action='store_true', help='time each pass as one CUDA graph, for small batches'
    )
    latency.add_argument('--repetitions', type=int, help='timed passes of each route (5)')
    args = parser.parse_args()
    if args.pictures is not None:
        check_int('--pictures', args.pictures, 1, meaning='images to show')
    args.work_dir = args.work_dir or str(args.out / 'log')
    return args


def change_config(cfg: Config, args: argparse.Namespace) -> None:
    """Enter the arguments into the config; other settings stay."""
    make_stitched(cfg.test_cfg)
    enter_evaluation(cfg, args)
    cfg.log_level = 'WARNING'
    said = {
        'memory_budget_mb': args.memory_budget,
        'route_batch': args.route_batch,
        'skip_unreadable': args.skip_unreadable or None,
        'latency': latency_settings(args) if args.latency else None,
    }
    cfg.test_cfg.update({key: value for key, value in said.items() if value is not None})
    cfg.test_cfg.update(out_dir=str(args.out), resume=args.resume)


def latency_settings(args: argparse.Namespace) -> dict:
    """Arguments of the test loop's ``latency``."""
    settings = {
        'method': args.latency,
        'batch_size': args.batch_size,
        'compiled': args.compile or None,
        'cuda_graph': args.cuda_graph or None,
        'repetitions': args.repetitions,
        'input_shape': args.shape and tuple(args.shape),
    }
    return {name: value for name, value in settings.items() if value is not None}


def evaluate(runner: Runner, args: argparse.Namespace) -> list[Record]:
    """Records of all evaluated routes on the first rank; none on other ranks."""
    loop = runner.test_loop
    loop.progress = RoutesProgress(print, bar=True)
    alone = [record for path in args.alone for record in read_records(path)]
    pictures = partial(picture_routes, loop, args.pictures) if args.pictures else None
    loop.write_report = partial(write_full_report, metric=args.metric, trained_alone=alone, make_pictures=pictures)
    runner.test()
    return loop.records


@command
def main() -> None:
    args = parse_args()
    cfg = load_runner_config(args)
    change_config(cfg, args)
    check_data_folders(cfg, ('test_dataloader',))
    records = evaluate(build_runner(cfg), args)
    if records:
        print(format_table(records, args.metric or main_metric(records)))
        print(f'wrote the report to {args.out}: open {args.out / "report.html"}')


if __name__ == '__main__':
    main()
