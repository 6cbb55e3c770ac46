"""``LinearDepthHead``: what a linear layer reads of depth from a ViT."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from mmsnnet.depth.depth_head import DepthHead, Level, check_class_tokens, map_of
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_int, check_word

# The least weight of a bin, before they are divided by their sum (AdaBins).
FLOOR = 0.1
BATCH_NORM = {'type': 'BN'}
# DINOv3's.
INITIAL = {'type': 'Normal', 'std': 0.01, 'override': {'name': 'conv_depth'}}


@register(MODELS)
class LinearDepthHead(DepthHead):
    """A 1x1 convolution that gives each patch a weight for each of some bins of depth; depth is their mean.

    Bins lie evenly from ``min_depth`` to ``max_depth``. Weights are ``relu(x) + 0.1``, divided by their sum.

    Its defaults are DINOv3's for NYUv2 (facebookresearch/dinov3, ``eval/depth/configs/config-nyu.yaml`` and
    ``models/linear_head.py``): the last level after the backbone's norm (``final_norm=True``), without the class token,
    a batch norm, 256 bins, no resizing before them; ``SigLoss``; AdamW with 3e-4, 38400 iterations of 16 images.
    DINOv2's (facebookresearch/dinov2, ``hub/depthers.py``) are ``readout='concat'``, ``norm_cfg=None`` and
    ``upsample=4``, for the last level or four, without the backbone's norm.

    Args:
        in_channels: channels of a level, without the class token; with several levels a number or a list.
        in_index: the level to read, or a list of levels, which are concatenated.
        readout: ``'concat'`` concatenates the class token to each patch, ``'ignore'`` leaves it out, and takes levels
            without it, too.
        norm_cfg: a norm before the convolution; default: batch norm; None: none.
        num_bins: the number of bins.
        upsample: by how much weights are resized before they become depth, which is then resized to the image.
        init_cfg: MMEngine's; default: weights of 0.01 times a normal distribution, as DINOv3's.
        min_depth, max_depth, loss_decode, **kwargs: as ``DepthHead``'s.

    Raises:
        ValueError: while it runs, levels without the class token that ``readout`` reads.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        in_index: int | Sequence[int] = -1,
        readout: str = 'ignore',
        norm_cfg: dict | None = BATCH_NORM,
        num_bins: int = 256,
        upsample: int = 1,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.readout = check_word('readout', readout, ('concat', 'ignore'))
        is_many = not isinstance(in_index, int)
        if is_many and isinstance(in_channels, int):
            in_channels = [in_channels] * len(in_index)
        width = (sum(in_channels) if is_many else in_channels) * (2 if readout == 'concat' else 1)
        transform = 'resize_concat' if is_many else None
        init_cfg = init_cfg or INITIAL
        super().__init__(in_channels, width, in_index=in_index, input_transform=transform, init_cfg=init_cfg, **kwargs)
        self.upsample = check_int('upsample', upsample, 1)
        self.norm = nn.Identity() if norm_cfg is None else build_norm_layer(norm_cfg, width)[1]
        self.conv_depth = nn.Conv2d(width, check_int('num_bins', num_bins, 2), 1)
        self.register_buffer('bins', torch.linspace(self.min_depth, self.max_depth, num_bins), persistent=False)

    def forward(self, levels: Sequence[Level]) -> Tensor:
        """Levels, each a map (B, C, h, w) or a pair of it and a class token (B, C) -> depth (B, 1, h', w') in metres.

        h' and w' are ``upsample`` times those of the first level that is read.

        Raises:
            ValueError: no class token where it is read.
        """
        features = self._transform_inputs(self._with_readout(levels))
        logits = self.conv_depth(self.norm(features))
        if self.upsample > 1:
            # DINOv2 resizes what enters the convolution, which gives the same, as it mixes channels alone.
            logits = F.interpolate(
                logits, scale_factor=self.upsample, mode='bilinear', align_corners=self.align_corners
            )
        # Half precision is too coarse for a mean of metres.
        weights = logits.float().relu() + FLOOR
        return (weights * self.bins[:, None, None]).sum(1, keepdim=True) / weights.sum(1, keepdim=True)

    def _with_readout(self, levels: Sequence[Level]) -> list[Tensor]:
        if self.readout == 'ignore':
            return [map_of(level) for level in levels]
        check_class_tokens(levels, self.readout)
        return [torch.cat([map_, token[:, :, None, None].expand_as(map_)], 1) for map_, token in levels]
