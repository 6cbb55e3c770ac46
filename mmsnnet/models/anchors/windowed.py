"""Plain ViTs with windowed attention, as ViTDet and SAM have them, and what anchors share whose tokens are maps."""

from timm.layers import resample_abs_pos_embed_nhwc
from timm.models.vision_transformer_sam import Attention, VisionTransformerSAM
from torch import Tensor

from mmsnnet.models.anchors.plain import Anchor, Grid, pad_to_patches
from mmsnnet.models.fused_attention import FusedAttention


class MapAnchor(Anchor):
    """An anchor whose tokens are maps (B, h, w, C), without a class token."""

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        patches = self.patch_embed.proj(pad_to_patches(images, self.patch_size))
        grid = (patches.shape[2], patches.shape[3])
        tokens = self.patch_embed.norm(patches.permute(0, 2, 3, 1))
        if self.pos_embed is not None:
            resized = resample_abs_pos_embed_nhwc(self.pos_embed, list(grid), self.resize_mode, antialias=False)
            tokens = tokens + resized
        return self.norm_pre(self.pos_drop(tokens)), grid

    def to_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens.permute(0, 3, 1, 2).contiguous()


class WindowedAnchor(MapAnchor):
    """A timm ``VisionTransformerSAM``: most blocks attend within windows, some to the whole map."""

    family = VisionTransformerSAM

    def __init__(self, vit: VisionTransformerSAM, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        for block in self.blocks:
            if type(block.attn) is Attention:
                # The same layers, computed in another way.
                block.attn.__class__ = FusedAttention
