"""How fast are windowed anchors, against the same blocks with the attention that ViTDet's code writes out?

$ python -m tools.benchmarks.windowed_attention --out docs/benchmarks/windowed_attention.json

DeiT3-S and -L with ViTDet's windows of 14 at 1024x1024, batch 1: inference, and a training step (forward and backward).
The rival is the same anchor whose attention makes a matrix of all pairs of tokens, adds relative positions to it, and
takes its softmax, as MMDetection's and Detectron2's ViTDet do. On a CPU the anchors should be at least as fast,
on a GPU 1.3 times. Last, windows of 14, which pad 64 patches to 70, against windows of 16, which pad nothing.
"""

from argparse import Namespace
from collections.abc import Callable

import torch
from timm.models.vision_transformer_sam import Attention, get_rel_pos
from torch import Tensor, nn

from mmsnnet.models import StitchedViT, route_costs
from mmsnnet.models.fused_attention import FusedAttention
from tools.benchmarks.common import Bound, Comparison, Pair, benchmark, compare, windowed


class WrittenOutAttention(Attention):
    """ViTDet's attention step by step, with its matrix of all pairs of tokens."""

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        tokens = height * width
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, batch * self.num_heads, tokens, -1).unbind(0)
        weights = (q * self.scale) @ k.transpose(-2, -1)
        map_of_q = q.reshape(-1, height, width, q.shape[-1])
        rows = torch.einsum('bhwc,hkc->bhwk', map_of_q, get_rel_pos(height, height, self.rel_pos_h))
        columns = torch.einsum('bhwc,wkc->bhwk', map_of_q, get_rel_pos(width, width, self.rel_pos_w))
        weights = weights.view(-1, height, width, height, width) + rows[..., :, None] + columns[..., None, :]
        attended = weights.view(-1, tokens, tokens).softmax(dim=-1) @ v
        attended = attended.view(batch, self.num_heads, height, width, -1).permute(0, 2, 3, 1, 4)
        return self.proj(attended.reshape(batch, height, width, -1))


@torch.no_grad()
def build(pair: Pair, device: torch.device) -> StitchedViT:
    """A backbone whose relative positions matter, which a fresh one's do not."""
    backbone = pair.build(device)
    for name, parameter in backbone.named_parameters():
        if 'rel_pos' in name:
            nn.init.normal_(parameter, std=0.1)
    return backbone


def attending_by(attention: type[Attention], backbone: StitchedViT, run: Callable[[], tuple]) -> Callable[[], tuple]:
    def attended() -> tuple:
        for anchor in backbone.anchors:
            for block in anchor.blocks:
                block.attn.__class__ = attention
        return run()

    return attended


def inference(backbone: StitchedViT, images: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    def run() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return backbone(images)

    return run


def training_step(backbone: StitchedViT, images: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Returns the map, and the gradient of one of the large tables of relative positions."""

    def run() -> tuple[Tensor, ...]:
        backbone.zero_grad(set_to_none=True)
        (feature_map,) = backbone(images)
        feature_map.square().mean().backward()
        table = backbone.anchors[backbone.route.spans[0].anchor].blocks[-1].attn.rel_pos_h
        return feature_map.detach(), table.grad

    return run


def run_benchmark(args: Namespace) -> list[Comparison]:
    window_size, other_size, image_size = (3, 2, 64) if args.toy else (14, 16, 1024)
    pair, args.pair = args.pair, windowed(args.pair, window_size, image_size)
    bound = Bound('>=', 1.3 if args.device.type == 'cuda' else 1.0)
    images = args.pair.images(args.device)
    backbone = build(args.pair, args.device)
    costs = route_costs(backbone, (image_size, image_size))
    comparisons = []
    for route in (backbone.space[0], backbone.space[1]):
        backbone.set_route(route)
        for case, make, mode in (('inference', inference, False), ('training step', training_step, True)):
            run = make(backbone.train(mode), images)
            contestants = {
                'written out': attending_by(WrittenOutAttention, backbone, run),
                'mmsnnet': attending_by(FusedAttention, backbone, run),
            }
            comparisons.append(compare(f'{route} {case}', contestants, args, bound, gflops=costs[route.id].gflops))
    other = build(windowed(pair, other_size, image_size), args.device).eval()
    backbone.eval()
    for route in (backbone.space[0], backbone.space[1]):
        contestants = {}
        for name, model in ((f'windows of {window_size}', backbone), (f'windows of {other_size}', other)):
            model.set_route(route)
            run = inference(model, images)
            # They compute different maps: only the shapes can be compared.
            contestants[name] = lambda run=run: (torch.tensor(run()[0].shape, dtype=torch.float32),)
        comparisons.append(compare(f'{route} inference', contestants, args, gflops=costs[route.id].gflops))
    return comparisons


main = benchmark(__file__, __doc__, run_benchmark, repetitions=3)


if __name__ == '__main__':
    main()
