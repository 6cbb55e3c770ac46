"""Evaluate a checkpoint: every stitch of a stitched model, or those that --routes names.

$ python tools/test.py CONFIG CHECKPOINT --routes anchors
$ python tools/test.py CONFIG CHECKPOINT --routes 's[0:3]-l[6:12]' 17 42

Prints a table by rising cost, and writes stitches.json and pareto.png into the work directory.
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
from mmsnnet.engine import StitchTestLoop, check_data_folders, find_input_shape, unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.evaluation import format_table
from mmsnnet.models import measure_cost
from mmsnnet.stitching import Record, Route, main_metric, write_records


def parse_args() -> argparse.Namespace:
    parser = runner_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    add_routes_option(parser)
    whose = "the largest anchor's or else the dearest stitch's"
    parser.add_argument('--out', help=f'folder to save predictions to, {whose}')
    parser.add_argument('--show-dir', help=f'folder to save painted images to, {whose}')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    return parser.parse_args()


def change_config(cfg: Config, args: argparse.Namespace) -> None:
    """Enter what the arguments say into the config."""
    cfg.load_from = check_file(args.checkpoint, 'checkpoint')
    forget_pretrained(cfg.model)
    if args.routes:
        if 'anchors' not in cfg.model.get('backbone', {}):
            raise UserError('--routes needs a stitched model, and this config has none')
        cfg.test_cfg = {'type': 'mmsnnet.StitchTestLoop', 'routes': parse_routes(args.routes)}
    if cfg.test_cfg.type.endswith('StitchTestLoop'):
        cfg.test_cfg.setdefault('out_dir', cfg.work_dir)
    if args.out:
        cfg.test_evaluator.update(saved_predictions(cfg.test_evaluator.type, args.out))
    if args.show_dir:
        if 'visualization' not in cfg.default_hooks:
            raise UserError(
                "--show-dir needs a hook that paints: default_hooks.visualization, 'SegVisualizationHook' or "
                "'DetVisualizationHook'"
            )
        cfg.default_hooks.visualization.update(draw=True, interval=1)
        cfg.visualizer.save_dir = args.show_dir
    if args.tta:
        if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
            raise UserError('--tta needs tta_model and tta_pipeline in the config, which has not both')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = {**cfg.tta_model, 'module': cfg.model}


def saved_predictions(metric: str, folder: str) -> dict:
    """Arguments that let a metric save predictions."""
    if metric.endswith('CocoMetric'):
        return {'outfile_prefix': str(Path(folder, 'predictions'))}
    return {'output_dir': folder, 'keep_results': True}


@command
def main() -> None:
    args = parse_args()
    cfg = load_runner_config(args)
    change_config(cfg, args)
    check_data_folders(cfg, ('test_dataloader',))
    runner = build_runner(cfg)
    metrics = runner.test()
    if isinstance(runner.test_loop, StitchTestLoop):
        records = runner.test_loop.records
    else:
        records = [whole_model_record(runner, metrics)]
        if is_main_process():
            write_records(records, Path(cfg.work_dir, 'stitches.json'))
    if is_main_process():
        print(format_table(records, main_metric(records)))


def whole_model_record(runner: Runner, metrics: dict[str, float]) -> Record:
    """The record of a model that is not stitched, to compare stitches with."""
    cost = measure_cost(unwrapped_model(runner), find_input_shape(runner))
    route = Route(0, Path(runner.cfg.filename).stem, 'anchor', ())
    return Record.of(route, cost, metrics)


if __name__ == '__main__':
    main()
