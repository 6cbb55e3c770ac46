"""Toy depth estimation: levels with class tokens, samples with depth, and a stand-in for a backbone that emits both."""

from collections.abc import Sequence

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import DepthEstimator
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmsnnet.depth import DPTDepthHead, LinearDepthHead
from mmsnnet.registry import MODELS, register

WIDTH = 8
HEADS = {
    'dpt': lambda **kwargs: DPTDepthHead(
        **{'in_channels': WIDTH, 'channels': 8, 'post_process_channels': (4, 4, 8, 8), **kwargs}
    ),
    'linear': lambda **kwargs: LinearDepthHead(**{'in_channels': WIDTH, 'num_bins': 16, **kwargs}),
}


def levels(batch: int = 2, grid: tuple[int, int] = (4, 5), count: int = 4, seed: int = 0) -> list[list[Tensor]]:
    """Pairs of maps (B, C, h, w) and class tokens (B, C)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, WIDTH, *grid), (batch, WIDTH)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(count)]


def depth_samples(batch: int, size: tuple[int, int], seed: int = 0) -> list[SegDataSample]:
    """Ground truth of 0 to 10 metres, of which a tenth is not measured."""
    truths = torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed)) * 10
    truths[truths < 1] = 0
    meta = dict(img_shape=size, ori_shape=size)
    return [SegDataSample(gt_depth_map=PixelData(data=truth), metainfo=meta) for truth in truths]


@register(MODELS)
class ToyLevels(nn.Module):
    """Maps of patches of 8x8 pixels after each of four layers, with their mean as a class token."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, WIDTH, 8, stride=8), *(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(3))]
        self.layers = nn.ModuleList(layers)

    def forward(self, images: Tensor) -> list[list[Tensor]]:
        maps = [images]
        for layer in self.layers:
            maps.append(layer(maps[-1]).tanh())
        return [[map_, map_.mean((2, 3))] for map_ in maps[1:]]


def toy_estimator(head: str = 'dpt', test_cfg: dict | None = None, **kwargs) -> nn.Module:
    """A ``DepthEstimator`` with random weights, the same each time."""
    torch.manual_seed(0)
    model = DepthEstimator(
        backbone=dict(type='mmsnnet.ToyLevels'),
        # MMSegmentation builds heads of configs alone.
        decode_head=dict(type='LinearDepthHead', in_channels=WIDTH, num_bins=4),
        test_cfg=ConfigDict(test_cfg or dict(mode='whole')),
    )
    model.decode_head = HEADS[head](**kwargs)
    return model.eval()


def parameters_without_gradient(module: nn.Module, loss: Tensor) -> Sequence[str]:
    """Names of the trained parameters that a loss does not depend on."""
    loss.backward()
    return [name for name, value in module.named_parameters() if value.grad is None or not value.grad.any()]
