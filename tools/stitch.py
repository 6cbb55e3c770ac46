"""Stitch two finished models of OpenMMLab: write the config and the checkpoint of a model that holds both.

$ python tools/stitch.py SMALL_CONFIG SMALL_CHECKPOINT LARGE_CONFIG LARGE_CHECKPOINT --out stitched.py
$ python tools/test.py stitched.py stitched.pth --routes anchors
$ python tools/train.py stitched.py
$ python tools/stitch.py --add budget:120 STITCHED_CONFIG STITCHED_CHECKPOINT --out grown.py

The two are segmentors, depth estimators, detectors or classifiers with mmsnnet's AnchorViT, or segmentors with
MMSegmentation's VisionTransformer, BEiT or MAE. They stay as they are: each is a route of the stitched model. Training
teaches the routes between them. Data, schedule and evaluation are the large model's. With --add, a stitched model gets
weights for one more route. To train them changes nothing else of it.
"""

import argparse
import copy
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmsnnet.building import build_model, load_weights
from mmsnnet.cli import command
from mmsnnet.errors import UserError
from mmsnnet.evaluation import versions
from mmsnnet.files import check_file, write_file
from mmsnnet.joining import (
    FinishedModel,
    absolute,
    add_to_config,
    check_pair,
    differences,
    find_new_route,
    grown_model,
    join_configs,
    join_models,
    largest_difference,
    load_finished,
)
from mmsnnet.models import find_backbone
from mmsnnet.models.tuning import WAYS
from mmsnnet.models.weights import weights_in
from mmsnnet.stitching import StitchSpace

# Float32 in another order of operations differs less; a mistake, more.
TOLERANCE = 1e-3


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        'models',
        nargs='+',
        metavar='CONFIG CHECKPOINT',
        help='config and checkpoint files of the small and of the large model; with --add, of the stitched one',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE.py', help='config to write; the checkpoint goes to FILE.pth'
    )
    parser.add_argument(
        '--exact',
        choices=WAYS,
        help='what routes with a switch train beside the two models: low-rank updates or copies of blocks (adapters)',
    )
    parser.add_argument('--routes', type=int, metavar='N', help='how many routes with a switch to train, 0 for all (8)')
    parser.add_argument(
        '--add',
        metavar='ROUTE',
        help="route to add to a stitched model: an id, a name, or 'budget:120', the most expensive one of at most 120 "
        'GFLOPs',
    )
    args = parser.parse_args()
    expected = 2 if args.add else 4
    if len(args.models) != expected:
        wanted = 'config and checkpoint of one stitched model' if args.add else 'two configs, each with a checkpoint'
        parser.error(f'give {wanted}, got {len(args.models)} files')
    if args.out.suffix != '.py':
        parser.error(f'--out must end in .py, got {args.out}')
    if args.add and (args.exact or args.routes is not None):
        parser.error('--add takes neither --exact nor --routes: these are settings of the stitched model, which stay')
    args.exact = args.exact or 'adapters'
    if args.routes is not None and args.routes < 0:
        parser.error(f'--routes must be 0 or more, got {args.routes}')
    return args


def load_pair(args: argparse.Namespace) -> list[FinishedModel]:
    """The two models of the arguments, which can be stitched."""
    small, large = (load_finished(*args.models[index : index + 2]) for index in (0, 2))
    check_pair(small, large)
    for note in (*small.notes, *large.notes, *differences(small, large)):
        print(f'note: {note}')
    return [small, large]


def check_routes(stitched: nn.Module, models: list[FinishedModel]) -> None:
    """Compare each anchor's route with its finished model.

    Raises:
        ValueError: they differ.
    """
    space = find_backbone(stitched).space
    for index, model in enumerate(models):
        difference = largest_difference(stitched, model, index)
        print(f'route {space[index].name}: features of {model.checkpoint}, largest difference {difference:.2g}')
        if not difference < TOLERANCE:
            raise UserError(
                f'{model.config} cannot be stitched: as an anchor it gives other features ({difference:.2g})'
            )


def count_routes(models: list[FinishedModel], wanted: int | None) -> int:
    """How many routes with a switch to train: as many as wanted, by default 8, or all where there are fewer.

    Raises:
        ValueError: more than there are.
    """
    num_routes = len(StitchSpace([model.vit.depth for model in models])) - len(models)
    if wanted is not None and wanted > num_routes:
        raise UserError(f'--routes must be at most {num_routes}, the number of routes with a switch, got {wanted}')
    return min(8, num_routes) if wanted is None else wanted


def write_checkpoint(stitched: nn.Module, models: list[FinishedModel], path: Path) -> None:
    """Write the weights of all models. Routes with a switch have not trained yet."""
    classes = models[-1].dataset_meta
    meta = {'versions': versions(), **({'dataset_meta': classes} if classes else {})}
    space = find_backbone(stitched).space
    finished = [space[index].name for index, _ in enumerate(models)]
    content = {'state_dict': stitched.state_dict(), 'meta': meta, 'trained_routes': finished}
    write_file(path, lambda partial: torch.save(content, partial))


def stitch(args: argparse.Namespace, checkpoint: Path) -> None:
    """Write a model of two finished ones."""
    models = load_pair(args)
    cfg = join_configs(models, checkpoint, args.exact, count_routes(models, args.routes))
    # The random stitching layers are the same each time.
    torch.manual_seed(0)
    stitched = join_models(cfg, models)
    check_routes(stitched, models)
    write_checkpoint(stitched, models, checkpoint)
    write_file(args.out, lambda partial: cfg.dump(partial))
    load_weights(build_model(Config.fromfile(args.out)), str(checkpoint))
    print(f'{len(find_backbone(stitched).space)} routes: wrote {args.out}, to train, and {checkpoint}, to test')


def add_route(args: argparse.Namespace, checkpoint: Path) -> None:
    """Write a stitched model with one more route to train."""
    cfg = Config.fromfile(check_file(args.models[0], 'config'))
    content = CheckpointLoader.load_checkpoint(check_file(args.models[1], 'checkpoint'), map_location='cpu')
    route = find_new_route(build_model(copy.deepcopy(cfg)), cfg, args.add, content.get('trained_routes') or ())
    grown_cfg = add_to_config(cfg, route, absolute(str(checkpoint)))
    weights = grown_model(grown_cfg, weights_in(content), route).state_dict()
    kept = {'state_dict': weights, **{key: content[key] for key in ('meta', 'trained_routes') if key in content}}
    write_file(checkpoint, lambda partial: torch.save(kept, partial))
    write_file(args.out, lambda partial: grown_cfg.dump(partial))
    print(f'route {route}: wrote {args.out}, to train, and {checkpoint}, from which training starts')


@command
def main() -> None:
    args = parse_args()
    checkpoint = args.out.with_suffix('.pth')
    for path in (args.out, checkpoint):
        if absolute(str(path)) in map(absolute, args.models):
            raise UserError(f'{path} is one of the given files: choose another --out')
    (add_route if args.add else stitch)(args, checkpoint)


if __name__ == '__main__':
    main()
