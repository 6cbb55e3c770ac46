"""``DPTDepthHead``: depth from four levels of a ViT (DPT, arXiv 2103.13413)."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.dpt_head import DPTHead
from torch import Tensor, nn

from mmsnnet.depth.depth_head import DepthHead, Level, check_class_tokens, map_of
from mmsnnet.errors import UserError
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_word

NUM_LEVELS = 4


@register(MODELS)
class DPTDepthHead(DPTHead, DepthHead):
    """MMSegmentation's ``DPTHead`` with the depth output of the Monocular-Depth-Estimation-Toolbox (zhyever).

    Four levels are projected, resized to 4, 2, 1 and 1/2 times the grid of patches, and fused from coarse to fine. The
    depth output is a 3x3 convolution to half the channels, twice the size, a 3x3 convolution to 32 channels, ReLU and a
    1x1 convolution, then ``relu(x) + min_depth``. This is the head of SN-Netv2 on NYUv2.

    Where a grid is odd, ``DPTHead`` resizes finer levels to twice the coarser one, which is one patch larger.

    Args:
        in_channels: channels of every level, as a number or a list of four equal ones.
        channels: channels of the fused maps.
        readout: what becomes of the class token: ``'project'`` concatenates it to each patch and projects, ``'add'``
            adds it, ``'ignore'`` leaves it out, and takes levels without it, too.
        post_process_channels: channels of the resized levels, finest first.
        norm_cfg: a norm after each 3x3 convolution of the fusion; default: none.
        min_depth, max_depth, loss_decode, **kwargs: as ``DepthHead``'s.

    Raises:
        ValueError: levels of several widths; while it runs, other than four levels, or levels without the class token
            that ``readout`` reads.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int = 256,
        readout: str = 'project',
        post_process_channels: Sequence[int] = (96, 192, 384, 768),
        norm_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        widths = [in_channels] * NUM_LEVELS if isinstance(in_channels, int) else list(in_channels)
        if len(widths) != NUM_LEVELS or len(set(widths)) > 1:
            raise UserError(
                f'in_channels of DPTDepthHead must be a number, or a list of {NUM_LEVELS} equal ones, got {in_channels}'
            )
        if len(post_process_channels) != NUM_LEVELS:
            raise UserError(f'post_process_channels must be {NUM_LEVELS} numbers, got {post_process_channels}')
        self.readout = check_word('readout', readout, ('project', 'add', 'ignore'))
        super().__init__(
            embed_dims=widths[0],
            post_process_channels=list(post_process_channels),
            readout_type=readout,
            norm_cfg=norm_cfg,
            in_channels=widths,
            in_index=list(range(NUM_LEVELS)),
            input_transform='multiple_select',
            channels=channels,
            **kwargs,
        )
        self.conv_depth = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True),
            nn.Conv2d(channels // 2, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 1),
        )
        # It mixes values that are not negative, so depth starts above min_depth. As torch draws these weights, depth is
        # min_depth everywhere for one seed in twenty, and the ReLU after it then lets no gradient through, ever.
        for parameter in self.conv_depth[-1].parameters():
            parameter.data.abs_()

    def forward(self, levels: Sequence[Level]) -> Tensor:
        """Four levels, from early to late blocks -> depth (B, 1, H', W') in metres, not clamped.

        Each level is a pair of a map (B, C, h, w) and a class token (B, C), or the map alone where it is ignored. H'
        and W' are 32 times half of h and w, rounded up: for patches of 16 in even numbers, the size of the image.

        Raises:
            ValueError: other than four levels; no class token where it is read.
        """
        if len(levels) != NUM_LEVELS:
            raise UserError(
                f'DPTDepthHead reads {NUM_LEVELS} levels, but {len(levels)} leave the backbone: give it '
                f'{NUM_LEVELS} out_indices, such as (2, 5, 8, 11) of 12 blocks'
            )
        if self.readout == 'ignore':
            # DPTHead asks each level for two items, whatever they are.
            return super().forward([(map_of(level), None) for level in levels])
        check_class_tokens(levels, self.readout)
        return super().forward(levels)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Depth (B, 1, 2h, 2w) of the fused map (B, ``channels``, h, w)."""
        # Half precision is too coarse for metres: what follows must not round them again.
        return self.conv_depth(feat).float().relu() + self.min_depth
