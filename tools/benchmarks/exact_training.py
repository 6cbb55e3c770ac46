"""What does a training step cost when the anchors stay as they are?

$ python -m tools.benchmarks.exact_training --out docs/benchmarks/exact_training.json

The training step of train_step.py, with own exits, of routes with a switch: with all weights training, with low-rank
updates of frozen anchors (adapters, rank 32), and with copies of the blocks. The learning rate is zero, so that losses
stay equal. Memory is that of a step with AdamW in float32, predicted from shapes as tools/memory.py does, for the most
expensive route of the exact DINOv3-S/L config on ADE20K and a batch of 2.
"""

from argparse import Namespace
from dataclasses import replace

import torch
from mmengine.config import Config
from torch import nn

from mmsnnet.building import build_model
from mmsnnet.engine.memory_check import configured_optimizer, configured_setting
from mmsnnet.evaluation.profiling.training_memory import predict_training_memory, routes_by_memory
from mmsnnet.models import StitchedViT, find_backbone, route_costs
from tools.benchmarks.common import Comparison, Pair, benchmark, compare, example_routes
from tools.benchmarks.train_step import NUM_CLASSES, Segmentor, make_batch, make_step

CONFIG = 'configs/ade20k/stitched-dinov3-s-l_linear-exact_8xb2-40k_ade20k-512x512.py'
KINDS = ('SL', 'LS', 'LSL')
WAYS = {'all weights': None, 'adapters': 'adapters', 'copies': 'copies'}


class OwnExits(Segmentor):
    """A segmentor with a convolution for each anchor."""

    def __init__(self, backbone: StitchedViT) -> None:
        super().__init__(backbone, nn.ModuleList())
        self.of_anchors = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(anchor.embed_dim, NUM_CLASSES, 1) for _ in backbone.out_indices)
            for anchor in backbone.anchors
        )

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W), labels (B, h, w)."""
        self.heads = self.of_anchors[self.backbone.plan[-1].exit.anchor]
        return super().forward(images, labels)


def make_model(pair: Pair, exact: str | None, device: torch.device) -> OwnExits:
    """The pair with own exits; weights that ways have in common are equal."""
    torch.manual_seed(0)
    backbone = StitchedViT([pair.small, pair.large], pair.out_indices, lora_rank=16, exits='own', exact=exact)
    torch.manual_seed(0)
    return OwnExits(backbone).to(device).train()


def memory_gib(exact: str | None) -> float:
    """Of training the most expensive route of the config in one of the ways."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.exact = exact
    cfg.model.decode_head.exact = exact is not None
    with torch.device('meta'):
        model = build_model(cfg)
    backbone = find_backbone(model)
    backbone.set_route(routes_by_memory(backbone, [route for route in backbone.space if route.kind != 'anchor'])[-1])
    setting = replace(configured_setting(model, cfg), device_type='cpu')
    return predict_training_memory(model, configured_optimizer(model, cfg), setting).total(distributed=False) / 2**30


def run_benchmark(args: Namespace) -> list[Comparison]:
    models = {name: make_model(args.pair, exact, args.device) for name, exact in WAYS.items()}
    memory = {name: memory_gib(exact) for name, exact in WAYS.items()}
    costs = route_costs(models['all weights'].backbone, (args.pair.image_size,) * 2)
    comparisons = []
    for kind in KINDS:
        route = example_routes(models['all weights'].backbone.space)[kind]
        for model in models.values():
            model.backbone.set_route(route)
        batch = make_batch(models['all weights'].backbone, args)
        for name in ('adapters', 'copies'):
            pair = {way: make_step(models[way], *batch, lr=0.0) for way in (name, 'all weights')}
            details = {'gflops': costs[route.id].gflops, **{f'{way} GiB': memory[way] for way in pair}}
            comparisons.append(compare(f'{kind} {route}', pair, args, None, **details))
    return comparisons


main = benchmark(__file__, __doc__, run_benchmark, repetitions=5)


if __name__ == '__main__':
    main()
