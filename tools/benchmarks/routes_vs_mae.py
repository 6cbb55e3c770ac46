"""How much faster are routes over timm's blocks than over MMSegmentation's?

$ python -m tools.benchmarks.routes_vs_mae --out docs/benchmarks/routes_vs_mae.json

One route of each kind of the DeiT3-S/L pair at 512x512, batch 1, evaluation mode, against the same route over blocks of
MMSegmentation's MAE backbone: a plain ViT that writes its attention matrix out and adds a relative position bias to it,
where timm's attention is fused. Both run the same steps, share the stitching layers and hold the same weights (DeiT3
has no such bias, so that it is zero), and so compute the same maps. Routes over timm should be at least 1.5 times
faster.
"""

import copy
from argparse import Namespace
from functools import partial

import torch
from mmseg.models.backbones import MAE
from torch import Tensor, nn

from mmsnnet.models import Anchor, StitchedViT, route_costs
from mmsnnet.models.anchors import Grid
from tools.benchmarks.common import Bound, Comparison, Pair, benchmark, compare, example_routes

BOUND = Bound('>=', 1.5)
KINDS = ('L', 'SL', 'LS', 'LSL', 'SLS')
# Names of a block's weights in timm and in MMSegmentation.
RENAMED = {
    'norm1': 'ln1',
    'norm2': 'ln2',
    'ls1.gamma': 'gamma_1',
    'ls2.gamma': 'gamma_2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1',
}


class MAEAnchor(nn.Module):
    """MMSegmentation's ``MAE``, run block by block as a ``StitchedViT`` runs its anchors, with an anchor's weights."""

    def __init__(self, anchor: Anchor, image_size: int) -> None:
        super().__init__()
        self.mae = MAE(
            img_size=(image_size, image_size),
            patch_size=anchor.patch_size[0],
            embed_dims=anchor.embed_dim,
            num_layers=anchor.depth,
            num_heads=anchor.blocks[0].attn.num_heads,
            norm_cfg=dict(type='LN', eps=anchor.blocks[0].norm1.eps),
        )
        self.blocks = self.mae.layers
        self.position_module = None  # each block has relative positions of its own
        self.norm, self.pool = nn.Identity(), None
        self.width, self.stride = anchor.embed_dim, anchor.patch_size
        self._copy_weights(anchor)

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        patches, grid = self.mae.patch_embed(images)
        return torch.cat([self.mae.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.mae.pos_embed, grid

    def run(self, tokens: Tensor, start: int, stop: int, grid: Grid, stand_ins: None = None) -> Tensor:
        for index in range(start, stop):
            tokens = self.blocks[index](tokens)
        return tokens

    def out_channels(self, blocks: int) -> int:
        return self.width

    def stride_after(self, blocks: int) -> Grid:
        return self.stride

    def norm_after(self, stage: int) -> nn.Module:
        return self.norm

    def leave(self, tokens: Tensor, grid: Grid, stage: int) -> tuple[Tensor]:
        return (tokens[:, 1:].transpose(1, 2).unflatten(2, grid).contiguous(),)

    def _copy_weights(self, anchor: Anchor) -> None:
        for block, layer in zip(anchor.blocks, self.blocks, strict=True):
            weights = {rename(name): value for name, value in block.state_dict().items()}
            layer.load_state_dict({**layer.state_dict(), **weights})
        self.mae.patch_embed.projection.load_state_dict(anchor.patch_embed.proj.state_dict())
        # What the anchor adds to the patches, resized to this grid: it embeds a black image as that and the bias.
        black = anchor.pos_embed.new_zeros(1, 3, *self.mae.img_size)
        self.mae.pos_embed.copy_(anchor.embed(black)[0])
        self.mae.pos_embed[:, 1:] -= anchor.patch_embed.proj.bias


def rename(name: str) -> str:
    """A weight's name in timm -> in MMSegmentation."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def stitch_maes(backbone: StitchedViT, image_size: int) -> StitchedViT:
    """The backbone over ``MAE``s instead of its anchors, with the same stitching layers."""
    maes = nn.ModuleList(MAEAnchor(anchor, image_size) for anchor in backbone.anchors)
    return copy.deepcopy(
        backbone, {id(backbone.anchors): maes, id(backbone.up): backbone.up, id(backbone.down): backbone.down}
    )


@torch.no_grad()
def run_benchmark(args: Namespace) -> list[Comparison]:
    pair: Pair = args.pair
    backbone, images = pair.build(args.device).eval(), pair.images(args.device)
    baseline = stitch_maes(backbone, pair.image_size).to(args.device).eval()
    shape = (pair.image_size, pair.image_size)
    costs, baseline_costs = route_costs(backbone, shape), route_costs(baseline, shape)
    contestants = {"MMSegmentation's MAE": partial(baseline, images), 'StitchedViT': partial(backbone, images)}
    comparisons = []
    routes = example_routes(backbone.space)
    for kind in KINDS:
        route = routes[kind]
        backbone.set_route(route)
        baseline.set_route(route.id)
        gflops = dict(gflops=costs[route.id].gflops, baseline_gflops=baseline_costs[route.id].gflops)
        comparisons.append(compare(f'{kind} {route}', contestants, args, BOUND, **gflops))
    return comparisons


main = benchmark(__file__, __doc__, run_benchmark, repetitions=5)


if __name__ == '__main__':
    main()
