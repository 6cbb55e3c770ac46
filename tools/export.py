"""Take one route of a trained model away, as a model of its own.

$ python tools/export.py CONFIG CHECKPOINT --route 's[0:3]-l[6:12]' --out route
$ python tools/export.py CONFIG CHECKPOINT --budget latency_ms=20 --records benchmark/stitches.json --out route --onnx

Writes DIR/slim.pth with only what this route needs, and DIR/slim.py, the config that loads it in plain MMSegmentation,
MMDetection or MMPretrain with mmsnnet installed. Every file is loaded again, and its outputs are compared with the
supernet's.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mmsnnet.building import build_model, load_weights
from mmsnnet.cli import command, config_parser, load_config
from mmsnnet.engine import configured_input_shape
from mmsnnet.errors import UserError
from mmsnnet.evaluation import time_by_turns, versions
from mmsnnet.export import (
    Predictor,
    export_onnx,
    export_program,
    slim_config,
    slim_state_dict,
    write_checkpoint,
)
from mmsnnet.files import write_file, write_json
from mmsnnet.models import find_backbone
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import Route, StitchSpace, read_records, route_of, select

MIB = 2**20


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file of the stitched model')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for everything this writes')
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument('--route', help='name or id of the route')
    which.add_argument(
        '--budget',
        nargs='+',
        metavar='COST=MOST',
        help='the best route of --records within gflops, latency_ms, memory_mb or params_m, e.g. latency_ms=20',
    )
    parser.add_argument('--records', metavar='FILE', help='stitches.json of tools/benchmark.py, to choose by --budget')
    parser.add_argument('--metric', help='what to rank by (default: mIoU, box AP, RMSE of depth or top-1 accuracy)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('HEIGHT', 'WIDTH'),
        help="input size of the comparison and of --onnx and --torch-export (default: the config's)",
    )
    parser.add_argument(
        '--onnx',
        action='store_true',
        help='also write segmentor.onnx (or depth_estimator.onnx, classifier.onnx) and segmentor_any_batch.onnx',
    )
    parser.add_argument(
        '--torch-export',
        action='store_true',
        help='also write segmentor.pt2 (or depth_estimator.pt2, classifier.pt2), for torch.export.load',
    )
    parser.add_argument('--repetitions', type=int, default=5, help='timed passes of each (5)')
    args = parser.parse_args()
    if args.budget and not args.records:
        parser.error('--budget needs --records FILE: write it with tools/benchmark.py')
    return args


def choose_route(args: argparse.Namespace, space: StitchSpace) -> Route:
    """The route that the arguments name, or the best one within their budget."""
    if args.route is not None:
        return space.find(args.route)
    record = select(read_records(args.records), metric=args.metric, **parse_budget(args.budget))
    return route_of(space, record)


def parse_budget(words: list[str]) -> dict[str, float]:
    """``['latency_ms=20']`` -> ``{'latency_ms': 20.0}``."""
    budget = {}
    for word in words:
        cost, _, most = word.partition('=')
        try:
            budget[cost] = float(most)
        except ValueError:
            raise UserError(f'--budget takes COST=MOST such as latency_ms=20, got {word!r}') from None
    return budget


@torch.no_grad()
def difference(first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Largest absolute difference of what two functions return."""
    return (first(images) - second(images)).abs().max().item()


def as_function(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A model's raw output as one tensor."""
    if task_of(model).has_logits:
        return Predictor(model)

    def detector(images: Tensor) -> Tensor:
        # With fixed regions: predicted ones would change with the last digit.
        outputs = task_of(model).countable_outputs(images, with_masks=True)
        return torch.cat([leaf.flatten() for leaf in tree_leaves(outputs)])

    return detector


def export_files(slim: nn.Module, images: Tensor, args: argparse.Namespace) -> dict[Path, Callable[[Tensor], Tensor]]:
    """Write the requested files; returns a function that runs each file, by its name."""
    loaded = {}
    kind, two_images = task_of(slim).name.replace(' ', '_'), images.repeat(2, 1, 1, 1)
    if args.onnx:
        path = args.out / f'{kind}.onnx'
        loaded[path] = export_onnx(Predictor(slim), images, path, dynamic_batch=False)
        path = args.out / f'{kind}_any_batch.onnx'
        loaded[path] = export_onnx(Predictor(slim), two_images, path, dynamic_batch=True)
    if args.torch_export:
        path = args.out / f'{kind}.pt2'
        loaded[path] = export_program(Predictor(slim), two_images, path)
    return loaded


def size_mib(model: nn.Module) -> float:
    return sum(value.nbytes for value in model.state_dict().values()) / MIB


def parameters_m(model: nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@command
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    # A few passes are not worth compiling the blocks again.
    cfg.model.backbone.pop('compile_blocks', None)
    model = build_model(cfg).eval()
    if (args.onnx or args.torch_export) and not task_of(model).has_logits:
        raise UserError(
            '--onnx and --torch-export are for segmentors, depth estimators and classifiers, this is a '
            f'{type(model).__name__}: leave them out for the slim checkpoint and config'
        )
    dataset_meta = load_weights(model, args.checkpoint).get('dataset_meta')
    backbone = find_backbone(model)
    route = backbone.set_route(choose_route(args, backbone.space))
    shape = args.shape or configured_input_shape(model, cfg)
    images = torch.randn(1, 3, *shape, generator=torch.manual_seed(0))

    slim_path, config_path = args.out / 'slim.pth', args.out / 'slim.py'
    slim_cfg = slim_config(cfg, route)
    meta = {'route': route.name, 'versions': versions()}
    write_checkpoint(slim_state_dict(model, route), {**meta, 'dataset_meta': dataset_meta}, slim_path)
    write_file(config_path, lambda partial: partial.write_text(slim_cfg.pretty_text))
    slim = build_model(Config.fromfile(config_path)).eval()
    load_weights(slim, str(slim_path))

    supernet = as_function(model)
    functions = {slim_path: as_function(slim), **export_files(slim, images, args)}
    runs = {'supernet': lambda: supernet(images)}
    runs |= {path.name: lambda run=run: run(images) for path, run in functions.items()}
    milliseconds = time_by_turns(runs, images.device, args.repetitions)
    rows = [('supernet', parameters_m(model), size_mib(model), milliseconds['supernet'], 0.0)]
    for path, run in functions.items():
        diff = difference(run, supernet, images)
        rows.append((path.name, parameters_m(slim), path.stat().st_size / MIB, milliseconds[path.name], diff))
    keys = ('file', 'params_m', 'size_mib', 'latency_ms', 'max_abs_difference')
    result = {**meta, 'input_shape': list(images.shape), 'files': [dict(zip(keys, row, strict=True)) for row in rows]}
    write_json(args.out / 'export.json', result)
    print(f'route {route.id} {route.name} at {tuple(images.shape)}, raw outputs compared with the supernet')
    print(f'{"":30s} {"M params":>9s} {"MiB":>9s} {"ms":>9s} {"max |diff|":>11s}')
    for name, params, size, latency, diff in rows:
        print(f'{name:30s} {params:9.3f} {size:9.2f} {latency:9.2f} {diff:11.2g}')
    if (args.onnx or args.torch_export) and (note := task_of(model).note_on_files):
        print(note)
    print(f'wrote {", ".join(map(str, [config_path, *functions]))}')


if __name__ == '__main__':
    main()
