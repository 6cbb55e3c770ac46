"""What does an anchor's route in a StitchedViT cost over the bare timm model?

$ python -m tools.benchmarks.anchor_overhead --out docs/benchmarks/anchor_overhead.json

DeiT3-S and -L at 512x512, batch 1, evaluation mode, against timm's own forward_intermediates with the same weights and
output levels. The bare model is built for the image size, while the StitchedViT resizes its position embedding in every
pass: that is part of the overhead. The small anchor's maps leave a StitchedViT at the large anchor's width, through one
stitching layer a level. The bare model is given the same layers, so that both compute the same; the last row, for
information, leaves them out. The overhead should be at most 2 %.
"""

from argparse import Namespace
from functools import partial

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import VisionTransformer
from torch import Tensor

from mmsnnet.models import Anchor, StitchedViT, StitchingLayer, route_costs
from mmsnnet.stitching import Tap
from mmsnnet.stitching.plan import tapped_block
from tools.benchmarks.common import Bound, Comparison, Pair, benchmark, compare

BOUND = Bound('<=', 1.02)


def bare_vit(anchor: Anchor, timm_kwargs: dict, image_size: int) -> VisionTransformer:
    """timm's model for one image size, with an anchor's weights."""
    kwargs = dict(timm_kwargs)
    vit = timm.create_model(kwargs.pop('model'), num_classes=0, img_size=image_size, **kwargs)
    grid = list(vit.patch_embed.grid_size)
    pos_embed = resample_abs_pos_embed(anchor.pos_embed, grid, num_prefix_tokens=0, antialias=False)
    weights = {**anchor.state_dict(), 'pos_embed': pos_embed}
    # The final norm, which no anchor has, does not run here.
    vit.load_state_dict({**vit.state_dict(), **weights})
    return vit.to(anchor.pos_embed.device).eval()


def run_bare(vit: VisionTransformer, out_indices: list[int], images: Tensor) -> tuple[Tensor, ...]:
    """One map (B, C, h, w) per level."""
    return tuple(vit.forward_intermediates(images, indices=out_indices, intermediates_only=True))


def run_projected(
    vit: VisionTransformer, out_indices: list[int], layers: list[StitchingLayer], images: Tensor
) -> tuple[Tensor, ...]:
    """One map per level, each through its stitching layer."""
    levels = vit.forward_intermediates(images, indices=out_indices, intermediates_only=True, output_fmt='NLC')
    grid = vit.patch_embed.grid_size
    return tuple(
        layer(tokens).transpose(1, 2).unflatten(2, grid).contiguous()
        for layer, tokens in zip(layers, levels, strict=True)
    )


def tap_layers(backbone: StitchedViT) -> list[StitchingLayer]:
    """Stitching layers through which the taps of the route that is set leave."""
    return [backbone.layer(layer) for step in backbone.plan if isinstance(step, Tap) for layer in step.layers]


@torch.no_grad()
def run_benchmark(args: Namespace) -> list[Comparison]:
    pair: Pair = args.pair
    backbone, images = pair.build(args.device).eval(), pair.images(args.device)
    costs = route_costs(backbone, (pair.image_size, pair.image_size))
    small, large = (
        bare_vit(anchor, timm_kwargs, pair.image_size)
        for anchor, timm_kwargs in zip(backbone.anchors, (pair.small, pair.large), strict=True)
    )
    small_indices = [tapped_block(backbone.space, 0, index) for index in backbone.out_indices]
    stitched = partial(backbone, images)

    route = backbone.set_route(1)
    bare = partial(run_bare, large, list(backbone.out_indices), images)
    comparisons = [
        compare(
            f'large anchor {route}', {'StitchedViT': stitched, 'timm': bare}, args, BOUND, gflops=costs[route.id].gflops
        )
    ]
    route = backbone.set_route(0)
    projected = partial(run_projected, small, small_indices, tap_layers(backbone), images)
    bare = partial(run_bare, small, small_indices, images)
    for name, run, bound in (('timm + stitching layers', projected, BOUND), ('timm', bare, None)):
        contestants = {'StitchedViT': stitched, name: run}
        comparisons.append(compare(f'small anchor {route}', contestants, args, bound, gflops=costs[route.id].gflops))
    return comparisons


main = benchmark(__file__, __doc__, run_benchmark, repetitions=7)


if __name__ == '__main__':
    main()
