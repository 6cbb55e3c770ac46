"""``SimpleFPN``: a feature pyramid from the one last map of a plain ViT (ViTDet, section 3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_int

LN_EPS = 1e-6

# So that heads can say norm_cfg=dict(type='LN2d', eps=1e-6), as in MMDetection's ViTDet project.
MODELS.register_module('LN2d', module=LayerNorm2d)
if 'LN2d' not in MODELS.parent:
    MODELS.parent.register_module('LN2d', module=LayerNorm2d)


@register(MODELS)
class SimpleFPN(BaseModule):
    """Levels of strides 1/4, 1/2, 1 and 2 times that of the map, each from the map itself, and coarser ones.

    As ``projects/ViTDet`` of MMDetection and Detectron2 build it: transposed convolutions or a pooling, then a 1x1 and
    a 3x3 convolution with layer norms over channels, without activation. Further levels are subsampled from the last.

    Args:
        in_channels: channels of the map, as a number or a list of one, as other necks take it.
        out_channels: channels of every level.
        num_outs: levels that leave, finest first: up to 4 from the map, the rest subsampled.
        start_level: the finest level that leaves, 0 to 3: of stride 1/4, 1/2, 1 or 2 times the map's.
        init_cfg: MMEngine's.

    Raises:
        ValueError: fewer levels than there are from ``start_level`` on, or more than one input map.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int = 256,
        num_outs: int = 5,
        start_level: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(in_channels, int):
            _check_single(in_channels, 'in_channels')
            in_channels = in_channels[0]
        width = in_channels
        scalings = [
            nn.Sequential(_double(width, width // 2), LayerNorm2d(width // 2, eps=LN_EPS), nn.GELU(),
                          _double(width // 2, width // 4)),
            _double(width, width // 2),
            nn.Identity(),
            nn.MaxPool2d(2),
        ]  # fmt: skip
        start_level = check_int('start_level', start_level, 0, len(scalings) - 1)
        if num_outs < len(scalings) - start_level:
            raise UserError(f'SimpleFPN makes {len(scalings) - start_level} levels or more, got num_outs={num_outs}')
        self.num_outs = num_outs
        self.start_level = start_level
        self.scalings = nn.ModuleList(scalings[start_level:])
        self.convs = nn.ModuleList(
            _convs(channels, out_channels) for channels in (width // 4, width // 2, width, width)[start_level:]
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One map (B, C, h, w) -> ``num_outs`` maps (B, out_channels, 4h, 4w), (.., 2h, 2w), (.., h, w), ...

        With a ``start_level``, without that many of the first.

        Raises:
            ValueError: more than one map.
        """
        _check_single(maps, 'the maps that the backbone gives')
        levels = [convs(scaling(maps[0])) for scaling, convs in zip(self.scalings, self.convs, strict=True)]
        while len(levels) < self.num_outs:
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)


def _double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)


def _convs(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        LayerNorm2d(out_channels, eps=LN_EPS),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        LayerNorm2d(out_channels, eps=LN_EPS),
    )


def _check_single(values: Sequence, what: str) -> None:
    if len(values) != 1:
        raise UserError(
            f'SimpleFPN makes a pyramid from one map, but {what} are {len(values)}: '
            'give the backbone a single out index, such as its default out_indices=(-1,)'
        )
