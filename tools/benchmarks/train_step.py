"""How much slower does a route train inside the supernet than alone?

$ python -m tools.benchmarks.train_step --out docs/benchmarks/train_step.json

A training step (set the route, forward, cross entropy, backward, optimizer) of the DeiT3-S/L pair at 512x512, batch 1,
against the same step of a plain module that holds this route's blocks and stitching layers and nothing else. Each has
its own optimizer over all of its parameters: MMEngine's OptimWrapper and SGD with momentum. Heads are one 1x1
convolution a level, so that the backbone is what is timed. Both start from the same weights and see the same image, and
so end with the same loss. The supernet should be at most 5 % slower.
"""

import copy
from argparse import Namespace
from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from mmsnnet.models import Anchor, StitchedViT, route_costs
from mmsnnet.stitching import Route, Run, Switch
from tools.benchmarks.common import Bound, Comparison, Pair, benchmark, compare, example_routes

BOUND = Bound('<=', 1.05)
KINDS = ('S', 'SL', 'SLS')
NUM_CLASSES = 150
OPTIM_WRAPPER = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001, momentum=0.9, weight_decay=0.0005), clip_grad=None
)


class RouteAlone(nn.Module):
    """A copy of what the backbone's current route runs, in sequence: the sub-network as if it had been built alone."""

    def __init__(self, backbone: StitchedViT) -> None:
        super().__init__()
        anchor: Anchor = backbone.anchors[backbone.route.spans[0].anchor]
        # All of the anchor but its blocks.
        self.stem = copy.deepcopy(anchor, {id(anchor.blocks): nn.ModuleList()})
        self.steps, self.taps = nn.ModuleList(), nn.ModuleDict()
        for step in backbone.plan:
            if isinstance(step, Run):
                self.steps.append(nn.Sequential(*backbone.anchors[step.anchor].blocks[step.start : step.stop]))
            elif isinstance(step, Switch):
                self.steps.append(backbone.layer(step.layer))
            else:
                self.taps[str(len(self.steps))] = nn.Sequential(*(backbone.layer(layer) for layer in step.layers))
        self.steps, self.taps = copy.deepcopy(self.steps), copy.deepcopy(self.taps)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tokens, grid = self.stem.embed(images)
        levels = []
        for index, step in enumerate(self.steps, start=1):
            tokens = step(tokens)
            if str(index) in self.taps:
                levels.append(self.stem.to_map(self.taps[str(index)](tokens), grid))
        return tuple(levels)


class Segmentor(nn.Module):
    """A backbone with a 1x1 convolution on each level; returns the loss."""

    def __init__(self, backbone: nn.Module, heads: nn.ModuleList) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Images (B, 3, H, W), labels (B, h, w)."""
        levels = self.backbone(images)
        return sum(F.cross_entropy(head(level), labels) for head, level in zip(self.heads, levels, strict=True))


def make_supernet(args: Namespace) -> Segmentor:
    """All routes of the pair, with heads."""
    backbone = args.pair.build(args.device)
    heads = nn.ModuleList(nn.Conv2d(backbone.out_channels, NUM_CLASSES, 1) for _ in backbone.out_indices)
    return Segmentor(backbone, heads.to(args.device)).train()


def make_batch(backbone: StitchedViT, args: Namespace) -> tuple[Tensor, Tensor]:
    """Images (1, 3, H, W) and labels (1, h, w), one for each token."""
    images = args.pair.images(args.device)
    grid = [size // patch for size, patch in zip(images.shape[-2:], backbone.anchors[0].patch_size, strict=True)]
    labels = torch.randint(NUM_CLASSES, (len(images), *grid), generator=torch.manual_seed(0))
    return images, labels.to(args.device)


def make_step(
    model: Segmentor,
    images: Tensor,
    labels: Tensor,
    before: Callable[[], object] | None = None,
    lr: float = OPTIM_WRAPPER['optimizer']['lr'],
) -> Callable[[], tuple[Tensor]]:
    """A function that trains a model for one step and returns the loss."""
    optimizer = {**OPTIM_WRAPPER['optimizer'], 'lr': lr}
    optim_wrapper = build_optim_wrapper(model, {**OPTIM_WRAPPER, 'optimizer': optimizer})

    def step() -> tuple[Tensor]:
        if before is not None:
            before()
        with optim_wrapper.optim_context(model):
            loss = model(images, labels)
        optim_wrapper.update_params(loss, zero_kwargs=dict(set_to_none=True))
        return (loss.detach(),)

    return step


def compare_route(supernet: Segmentor, route: Route, args: Namespace, **details) -> Comparison:
    backbone: StitchedViT = supernet.backbone
    backbone.set_route(route)
    alone = Segmentor(RouteAlone(backbone), copy.deepcopy(supernet.heads)).train()
    images, labels = make_batch(backbone, args)
    contestants = {
        'in the supernet': make_step(supernet, images, labels, before=lambda: backbone.set_route(route)),
        'alone': make_step(alone, images, labels),
    }
    return compare(f'{route.kind} {route}', contestants, args, BOUND, **details)


def run_benchmark(args: Namespace) -> list[Comparison]:
    pair: Pair = args.pair
    supernet = make_supernet(args)
    backbone: StitchedViT = supernet.backbone
    costs = route_costs(backbone, (pair.image_size, pair.image_size))
    routes = example_routes(backbone.space)
    return [compare_route(supernet, routes[kind], args, gflops=costs[routes[kind].id].gflops) for kind in KINDS]


main = benchmark(__file__, __doc__, run_benchmark, repetitions=5)


if __name__ == '__main__':
    main()
