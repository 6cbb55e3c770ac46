"""How much faster are all routes of a pair in one pass than one by one?

$ python -m tools.benchmarks.one_pass --photos photos/*.jpg --out docs/benchmarks/one_pass.json

The 134 routes of DeiT3-S and -L on each photograph at 512x512, batch 1: each by itself, against a pass that computes
what routes have in common once. First the backbone, then a whole segmentor (SETR-naive, 150 classes, logits resized to
the image and decoded), whose heads run for every route in both. On a CPU, one pass of the backbone should be at least
2.3 times as fast. Shares of the machine's matrix-multiply rate refer to a product of 2048 x 2048 matrices.
"""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import mmcv
import torch
from mmengine.config import Config
from torch import Tensor

from mmsnnet.building import build_model
from mmsnnet.evaluation import SharedPrefixes
from mmsnnet.models import StitchedViT, find_backbone, route_costs
from mmsnnet.stitching import CostTable, Run
from mmsnnet.stitching.prefix_tree import PrefixTree
from tools.benchmarks.common import Bound, Comparison, benchmark, compare, timed

BOUND = Bound('>=', 2.3)
CONFIG = Path(__file__).parents[2] / 'configs/ade20k/stitched-deit3-s-l_setr-naive_8xb2-160k_ade20k-512x512.py'
MATRIX = 2048


def load_photos(args: Namespace) -> list[Tensor]:
    """Normalised images (1, 3, H, W)."""
    size = args.pair.image_size
    if not args.photos:
        return [args.pair.images(args.device)]
    photos = []
    for path in args.photos:
        pixels = mmcv.imresize(mmcv.imread(path, channel_order='rgb'), (size, size))
        photo = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        photos.append(((photo - photo.mean()) / photo.std()).to(args.device))
    return photos


def one_by_one(
    backbone: StitchedViT, run: Callable[[Tensor], Tensor], photos: list[Tensor]
) -> Callable[[], tuple[Tensor, ...]]:
    """What ``run`` gives on every photograph for every route, by id, each computed alone."""

    def passes() -> tuple[Tensor, ...]:
        return tuple(
            torch.stack([run(photo) for route in backbone.space if backbone.set_route(route)]) for photo in photos
        )

    return passes


def in_one_pass(
    backbone: StitchedViT, run: Callable[[Tensor], Tensor], photos: list[Tensor]
) -> Callable[[], tuple[Tensor, ...]]:
    """The same, sharing prefixes."""

    def passes() -> tuple[Tensor, ...]:
        results = []
        with SharedPrefixes(backbone, list(backbone.space)) as sharing:
            for photo in photos:
                of_route = {route.id: run(photo) for route in sharing.visit()}
                results.append(torch.stack([of_route[route.id] for route in backbone.space]))
        return tuple(results)

    return passes


def matrix_rate(device: torch.device) -> float:
    """Multiply-adds a second, in units of 1e9, of a large matrix product: the best of five."""
    matrix = torch.randn(MATRIX, MATRIX, device=device)
    milliseconds = min(timed(lambda: (matrix @ matrix,), device)[0] for _ in range(5))
    return MATRIX**3 / 1e9 / (milliseconds / 1e3)


def shared_gflops(backbone: StitchedViT, costs: CostTable) -> float:
    """GFLOPs of the backbone's blocks in one pass over all routes."""
    tree = PrefixTree({route: backbone.plan_of(route) for route in backbone.space})
    runs = (step for step in tree.steps() if isinstance(step, Run))
    return sum(costs.parts[run.anchor, block].gflops for run in runs for block in range(run.start, run.stop))


@torch.no_grad()
def run_benchmark(args: Namespace) -> list[Comparison]:
    backbone, photos = args.pair.build(args.device).eval(), load_photos(args)
    details = total_work(backbone, photos, args)
    comparisons = [compare_backbone(backbone, photos, args, details, BOUND)]

    segmentor = build_segmentor(args)
    decode = lambda photo: class_shares(segmentor, photo)  # noqa: E731
    comparisons.append(compare_ways('segmentor', find_backbone(segmentor), decode, photos, args, details))
    return comparisons


def total_work(backbone: StitchedViT, photos: list[Tensor], args: Namespace) -> dict[str, float]:
    """GFLOPs of all photographs in both ways, and how fast this machine multiplies."""
    costs = route_costs(backbone, (args.pair.image_size, args.pair.image_size))
    return {
        'gflops': shared_gflops(backbone, costs) * len(photos),
        'gflops_one_by_one': sum(costs.gflops) * len(photos),
        'matrix_rate_gflops_per_s': matrix_rate(args.device),
        'photos': len(photos),
    }


def compare_backbone(
    backbone: StitchedViT, photos: list[Tensor], args: Namespace, details: dict, bound: Bound
) -> Comparison:
    def features(photo: Tensor) -> Tensor:
        """A route's result as a vector (C,): 134 feature maps would fill the memory."""
        return backbone(photo)[-1].mean(dim=(0, 2, 3))

    return compare_ways('backbone', backbone, features, photos, args, details, bound)


def compare_ways(
    case: str,
    backbone: StitchedViT,
    run: Callable[[Tensor], Tensor],
    photos: list[Tensor],
    args: Namespace,
    details: dict,
    bound: Bound | None = None,
) -> Comparison:
    contestants = {
        'one by one': one_by_one(backbone, run, photos),
        'one pass': in_one_pass(backbone, run, photos),
    }
    comparison = compare(f'{case}, {len(backbone.space)} routes', contestants, args, bound, **details)
    for name, gflops in (('one by one', details['gflops_one_by_one']), ('one pass', details['gflops'])):
        share = gflops / (min(comparison.samples_ms[name]) / 1e3) / details['matrix_rate_gflops_per_s']
        comparison.details[f'share_of_matrix_rate, {name}'] = round(share, 3)
        print(f"{case}, {name}: {share:.0%} of the machine's matrix-multiply rate", file=sys.stderr)
    return comparison


def build_segmentor(args: Namespace) -> torch.nn.Module:
    """The ADE20K config's model over the pair, without auxiliary heads."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.auxiliary_head = None
    cfg.model.backbone.update(anchors=[dict(args.pair.small), dict(args.pair.large)], out_indices=args.pair.out_indices)
    torch.manual_seed(0)
    model = build_model(cfg)
    if args.toy:
        cfg.model.decode_head.in_channels = model.backbone.out_channels
        model = build_model(cfg)
    return model.to(args.device).eval()


def class_shares(segmentor: torch.nn.Module, photo: Tensor) -> Tensor:
    """Share of the pixels that each class gets."""
    logits = segmentor.encode_decode(photo, [{'img_shape': tuple(photo.shape[2:])}])
    return torch.bincount(logits.argmax(dim=1).flatten(), minlength=logits.shape[1]) / logits[0, 0].numel()


main = benchmark(__file__, __doc__, run_benchmark, repetitions=1, photos=True)


if __name__ == '__main__':
    main()
