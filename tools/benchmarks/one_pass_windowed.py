"""How much faster are all routes of a detector's backbone in one pass than one by one?

$ python -m tools.benchmarks.one_pass_windowed --photos photos/*.jpg --out docs/benchmarks/one_pass_windowed.json

As one_pass.py, with ViTDet's windows of 14 and relative positions, and the last map alone: the backbone of Mask R-CNN.
Images are 512x512, at which 134 routes one by one take minutes. On a CPU, one pass should be at least twice as fast.
"""

from argparse import Namespace

import torch

from tools.benchmarks.common import Bound, Comparison, benchmark, windowed
from tools.benchmarks.one_pass import compare_backbone, load_photos, total_work

BOUND = Bound('>=', 2.0)


@torch.no_grad()
def run_benchmark(args: Namespace) -> list[Comparison]:
    args.pair = windowed(args.pair, 3 if args.toy else 14, args.pair.image_size)
    backbone, photos = args.pair.build(args.device).eval(), load_photos(args)
    return [compare_backbone(backbone, photos, args, total_work(backbone, photos, args), BOUND)]


main = benchmark(__file__, __doc__, run_benchmark, repetitions=1, photos=True)


if __name__ == '__main__':
    main()
