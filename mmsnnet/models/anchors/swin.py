"""Swin Transformers: anchors with stages, which halve the map and widen its tokens from one to the next."""

from collections.abc import Iterator
from itertools import accumulate

from timm.models.swin_transformer import SwinTransformer
from torch import nn

from mmsnnet.models.anchors.plain import Grid
from mmsnnet.models.anchors.windowed import MapAnchor


class SwinAnchor(MapAnchor):
    """A timm ``SwinTransformer``, for images of any size.

    Blocks count over all stages. The first block of a stage merges the patches before it, as part of it.

    With ``final_norm``, maps of the last stage pass the model's norm, and those of each other stage a new one, as in
    the published Swin backbones for segmentation and detection.
    """

    family = SwinTransformer

    def __init__(self, vit: SwinTransformer, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        self._stages = tuple(len(stage.blocks) for stage in vit.layers)
        self.window_size: Grid = vit.layers[0].blocks[0].window_size
        for stage in vit.layers:
            for block in stage.blocks:
                # The mask of shifted windows is for the map at hand, not for one fixed size.
                block.dynamic_mask = True
                block.attn_mask = None

    @property
    def stages(self) -> tuple[int, ...]:
        return self._stages

    def width_after(self, blocks: int) -> int:
        return self.embed_dim * 2 ** self._stage_of(blocks)

    def stride_after(self, blocks: int) -> Grid:
        height, width = self.patch_size
        scale = 2 ** self._stage_of(blocks)
        return height * scale, width * scale

    def norm_after(self, stage: int) -> nn.Module:
        return self.norm[stage] if isinstance(self.norm, nn.ModuleList) else self.norm

    def _stage_of(self, blocks: int) -> int:
        """The stage of the last of so many blocks; of none, the first."""
        return sum(end < blocks for end in accumulate(self._stages))

    def _blocks_of(self, vit: SwinTransformer) -> Iterator[nn.Module]:
        for stage in vit.layers:
            first, *others = stage.blocks
            yield first if isinstance(stage.downsample, nn.Identity) else nn.Sequential(stage.downsample, first)
            yield from others

    def _norm_of_maps(self, vit: SwinTransformer) -> nn.ModuleList:
        norms = [type(vit.norm)(stage.blocks[0].dim, eps=vit.norm.eps) for stage in vit.layers[:-1]]
        return nn.ModuleList([*norms, vit.norm])
