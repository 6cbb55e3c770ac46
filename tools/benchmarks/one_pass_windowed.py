"""How much faster are all routes of a detector's backbone in one pass than one by one?

$ python tools/benchmarks/one_pass_windowed.py --photos photos/*.jpg --out docs/benchmarks/one_pass_windowed.json

As one_pass.py, with ViTDet's windows of 14 and relative positions, and the last map alone: the backbone of Mask R-CNN.
Images are 512x512, at which 134 routes one by one take minutes. On a CPU, one pass should be at least twice as fast.
"""

from argparse import Namespace

import torch
from common import Bound, Comparison, parse_args, report, windowed
from one_pass import compare_ways, load_photos, matrix_rate, shared_gflops

from mmsnnet.cli import command
from mmsnnet.models import route_costs

BOUND = Bound('>=', 2.0)


@torch.no_grad()
def run_benchmark(args: Namespace) -> list[Comparison]:
    args.pair = windowed(args.pair, 3 if args.toy else 14, args.pair.image_size)
    photos = load_photos(args)
    backbone = args.pair.build(args.device).eval()
    costs = route_costs(backbone, (args.pair.image_size, args.pair.image_size))
    details = {
        'gflops': shared_gflops(backbone, costs) * len(photos),
        'gflops_one_by_one': sum(costs.gflops) * len(photos),
        'matrix_rate_gflops_per_s': matrix_rate(args.device),
        'photos': len(photos),
    }
    features = lambda photo: backbone(photo)[-1].mean(dim=(0, 2, 3))  # noqa: E731
    return [compare_ways('backbone', backbone, features, photos, args, details, BOUND)]


@command
def main() -> None:
    args = parse_args(__doc__, repetitions=1, photos=True)
    report(run_benchmark(args), __doc__, args)


if __name__ == '__main__':
    main()
