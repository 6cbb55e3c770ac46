"""Evaluate a checkpoint: every route of a stitched model, or those that --routes names.

$ python tools/test.py CONFIG CHECKPOINT --routes anchors
$ python tools/test.py CONFIG CHECKPOINT --routes 's[0:3]-l[6:12]' 17 42

Prints a table by rising cost, and writes stitches.json and pareto.png into the work directory.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmsnnet.building import build_runner
from mmsnnet.cli import (
    add_evaluation_options,
    add_progress_option,
    command,
    enter_evaluation,
    is_stitch_loop,
    load_runner_config,
    runner_parser,
)
from mmsnnet.engine import StitchTestLoop, check_data_folders, find_input_shape, unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.evaluation import choose_dtype, describe_run, format_table, mixed_precision
from mmsnnet.models import model_cost
from mmsnnet.settings import name_of_type
from mmsnnet.stitching import Record, main_metric, write_records

# Settings with which metrics save predictions, by the end of the metric's name.
SAVING: dict[str, Callable[[str], dict[str, Any]]] = {
    'IoUMetric': lambda folder: {'output_dir': folder, 'keep_results': True},
    'DepthMetric': lambda folder: {'output_dir': folder},
    'CocoMetric': lambda folder: {'outfile_prefix': str(Path(folder, 'predictions'))},
}
# What they need unless the config says: MMSegmentation rounds depth to metres, where millimetres fit into 16 bits.
SAVING_DEFAULTS = {'DepthMetric': {'depth_scale_factor': 1000}}


def parse_args() -> argparse.Namespace:
    parser = runner_parser(__doc__)
    add_evaluation_options(parser)
    add_progress_option(parser)
    whose = 'those of the largest anchor, or else of the most expensive route'
    parser.add_argument('--out', help=f'folder to save predictions to: {whose}')
    parser.add_argument('--show-dir', help=f'folder to save painted images to: {whose}')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    return parser.parse_args()


def change_config(cfg: Config, args: argparse.Namespace) -> None:
    """Enter the arguments into the config; other settings stay."""
    enter_evaluation(cfg, args)
    if is_stitch_loop(cfg.test_cfg):
        cfg.test_cfg.setdefault('out_dir', cfg.work_dir)
    if args.out:
        save_predictions(cfg.test_evaluator, args.out)
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
            raise UserError('--tta needs tta_model and tta_pipeline in the config, which does not have both')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = {**cfg.tta_model, 'module': cfg.model}


def save_predictions(evaluator: dict | list[dict], folder: str) -> None:
    """Let those metrics of an evaluator that can save predictions do so.

    Raises:
        UserError: none of them can.
    """
    metrics = evaluator if isinstance(evaluator, list) else [evaluator]
    saving = [(metric, end) for metric in metrics for end in SAVING if name_of_type(metric['type']).endswith(end)]
    if not saving:
        names = ', '.join(name_of_type(metric['type']) for metric in metrics)
        raise UserError(
            f'--out needs a metric that saves predictions, one of {", ".join(SAVING)}, and there is {names}'
        )
    for metric, end in saving:
        metric.update({**SAVING_DEFAULTS.get(end, {}), **metric, **SAVING[end](folder)})


@command
def main() -> None:
    args = parse_args()
    cfg = load_runner_config(args)
    change_config(cfg, args)
    check_data_folders(cfg, ('test_dataloader',))
    runner = build_runner(cfg)
    if isinstance(runner.test_loop, StitchTestLoop):
        runner.test()
        records = runner.test_loop.records
    else:
        records = [test_whole_model(runner, args.dtype)]
        if is_main_process():
            write_records(records, Path(cfg.work_dir, 'stitches.json'))
    if is_main_process():
        print(format_table(records, main_metric(records)))


def test_whole_model(runner: Runner, dtype: str | None) -> Record:
    """Test a model that is not stitched; its record, to compare routes with."""
    dtype = choose_dtype(dtype, runner.test_loop.fp16)
    model, shape = unwrapped_model(runner), find_input_shape(runner)
    step, device = runner.model.test_step, next(model.parameters()).device

    def step_in_precision(data: Any) -> Any:
        with mixed_precision(dtype, device):
            return step(data)

    runner.model.test_step = step_in_precision
    metrics = runner.test()
    name = Path(runner.cfg.filename).stem
    return Record.of(name, model_cost(model, shape), metrics, provenance=describe_run(runner, shape, dtype))


if __name__ == '__main__':
    main()
