"""Evaluate every stitch of a trained model in one pass over the data, time them, and report which to deploy.

$ python tools/benchmark.py CONFIG CHECKPOINT --out benchmark
$ python tools/benchmark.py CONFIG CHECKPOINT --out benchmark --latency
$ torchrun --nproc_per_node 8 tools/benchmark.py CONFIG CHECKPOINT --out benchmark --launcher pytorch

Writes stitches.json, stitches.csv, pareto.png, pareto.svg and report.html, which opens in a browser, offline.
Interrupted at any moment, it goes on with --resume.
"""

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmsnnet.cli import (
    add_routes_option,
    build_runner,
    check_file,
    command,
    forget_pretrained,
    load_runner_config,
    parse_routes,
    runner_parser,
)
from mmsnnet.engine import RoutesProgress, check_data_folders, find_input_shape, unwrapped_model
from mmsnnet.evaluation import DTYPES, LatencySetting, add_latency, format_table, write_full_report
from mmsnnet.stitching import Record, main_metric, read_records


def parse_args() -> argparse.Namespace:
    parser = runner_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for everything this writes')
    parser.add_argument('--resume', action='store_true', help='go on with what an interrupted call left in DIR')
    add_routes_option(parser)
    parser.add_argument('--metric', help='what to rank by (default: mIoU or box AP)')
    parser.add_argument(
        '--alone', nargs='*', default=[], metavar='FILE', help='stitches.json of anchors trained alone, to compare with'
    )
    evaluation = parser.add_argument_group('evaluation')
    evaluation.add_argument(
        '--memory-budget', type=float, default=2048, metavar='MIB', help='for tokens that routes share (2048)'
    )
    evaluation.add_argument(
        '--route-batch', type=int, default=1, metavar='N', help='stitches that run as one batch, to fill a GPU (1)'
    )
    evaluation.add_argument(
        '--skip-unreadable', action='store_true', help='go on without images that cannot be loaded, naming them'
    )
    latency = parser.add_argument_group('latency')
    latency.add_argument(
        '--latency',
        nargs='?',
        const='measure',
        choices=['measure', 'estimate'],
        help='time every stitch on this device, or estimate from the times of blocks, in seconds instead of minutes',
    )
    latency.add_argument('--batch-size', type=int, default=1, help='images a pass (1)')
    latency.add_argument(
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='input size (default: that of training)'
    )
    latency.add_argument('--dtype', choices=DTYPES, default='float32', help='precision, mixed below float32 (float32)')
    latency.add_argument('--compile', action='store_true', help='compile every block with torch.compile first')
    latency.add_argument(
        '--cuda-graph', action='store_true', help='time each pass as one CUDA graph, for small batches'
    )
    latency.add_argument('--repetitions', type=int, default=5, help='timed passes of each stitch (5)')
    args = parser.parse_args()
    if args.batch_size < 1 or args.repetitions < 1:
        parser.error('--batch-size and --repetitions must be 1 or more')
    return args


def change_config(cfg: Config, args: argparse.Namespace) -> None:
    """Enter what the arguments say into the config."""
    cfg.load_from = check_file(args.checkpoint, 'checkpoint')
    cfg.work_dir = str(args.out / 'log')
    cfg.log_level = 'WARNING'
    forget_pretrained(cfg.model)
    routes = parse_routes(args.routes) if args.routes else cfg.test_cfg.get('routes', 'all')
    cfg.test_cfg = {
        'type': 'mmsnnet.StitchTestLoop',
        'routes': routes,
        'out_dir': str(args.out),
        'resume': args.resume,
        'memory_budget_mb': args.memory_budget,
        'route_batch': args.route_batch,
        'skip_unreadable': args.skip_unreadable,
    }


def evaluate(runner: Runner) -> list[Record]:
    """Records of all routes, on the main process."""
    loop = runner.test_loop
    loop.progress = RoutesProgress(print, bar=True)
    runner.test()
    return loop.records


def latency_setting(runner: Runner, args: argparse.Namespace) -> LatencySetting:
    return LatencySetting(
        input_shape=tuple(args.shape or find_input_shape(runner)),
        batch_size=args.batch_size,
        dtype=args.dtype,
        compiled=args.compile,
        repetitions=args.repetitions,
        cuda_graph=args.cuda_graph,
    )


@command
def main() -> None:
    args = parse_args()
    cfg = load_runner_config(args)
    change_config(cfg, args)
    check_data_folders(cfg, ('test_dataloader',))
    alone = [record for path in args.alone for record in read_records(path)]
    runner = build_runner(cfg)
    records = evaluate(runner)
    if not is_main_process():
        return
    metric = args.metric or main_metric(records)
    if args.latency:
        model = unwrapped_model(runner)
        add_latency(records, model, latency_setting(runner, args), args.latency, args.out / 'latency.json', args.resume)
    paths = write_full_report(records, args.out, metric, alone)
    print(format_table(records, metric))
    print(f'wrote {", ".join(str(path) for path in paths)}')


if __name__ == '__main__':
    main()
