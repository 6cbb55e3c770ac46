"""The adapter that runs timm's plain ViTs block by block, and the base of all others."""

from collections.abc import Collection, Iterable

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed, resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmsnnet.errors import UserError
from mmsnnet.models.pooling import Pooling

Grid = tuple[int, int]


class Anchor(nn.Module):
    """A timm ``VisionTransformer`` whose blocks run in any range: DeiT3, DINOv2, augreg, MAE, CLIP, SigLIP.

    Keeps the parts of ``vit`` that its features need, under timm's names; its classifier is left behind.

    Args:
        vit: a timm model.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
        final_norm: keep the norm after the last block, for the maps that leave the anchor.
        out_type: what leaves the anchor, one of ``OUT_TYPES``. A vector always passes the norm, if there is one.
        output_cls_token: let the class token leave beside each map.

    Raises:
        ValueError: there is no such norm, or no class token; the model does not pool in such a way.
    """

    family: type[nn.Module] = VisionTransformer

    def __init__(
        self,
        vit: nn.Module,
        with_cp: bool = False,
        final_norm: bool = False,
        out_type: str = 'featmap',
        output_cls_token: bool = False,
    ) -> None:
        super().__init__()
        _check_is_plain(vit)
        if output_cls_token:
            _check_has_cls_token(vit)
        self.with_cp = with_cp
        self.patch_embed = vit.patch_embed
        self.cls_token = getattr(vit, 'cls_token', None)
        self.reg_token = getattr(vit, 'reg_token', None)
        self.pos_embed = getattr(vit, 'pos_embed', None)
        self.pos_drop = getattr(vit, 'pos_drop', nn.Identity())
        self.norm_pre = getattr(vit, 'norm_pre', nn.Identity())
        self.blocks = nn.ModuleList(self._blocks_of(vit))
        self.pool = None if out_type == 'featmap' else Pooling(vit, out_type)
        self.output_cls_token = output_cls_token
        if self.pool is not None:
            self.norm = vit.norm
        else:
            self.norm = self._norm_of_maps(vit) if final_norm else nn.Identity()
        self.embed_dim: int = vit.embed_dim
        self.num_prefix_tokens: int = getattr(vit, 'num_prefix_tokens', 0)
        self.patch_size: Grid = vit.patch_embed.patch_size
        self.grid_size: Grid = vit.patch_embed.grid_size
        # Whether the position embedding has no slots for the prefix tokens (DeiT3), or has them (the others).
        self.no_embed_class: bool = getattr(vit, 'no_embed_class', False)
        self.resize_mode = 'bicubic'

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of blocks of each stage. A plain ViT has one: its tokens keep their number and width."""
        return (self.depth,)

    def width_after(self, blocks: int) -> int:
        """Channels of the tokens after so many blocks."""
        return self.embed_dim

    def stride_after(self, blocks: int) -> Grid:
        """Height and width in pixels of what a token stands for after so many blocks."""
        return self.patch_size

    @property
    def position_module(self) -> nn.Module | None:
        """The module that gives positions to all blocks, if there is one beside the embedding."""
        return None

    def strip(self, blocks: Collection[int], embeds: bool, is_exit: bool) -> None:
        """Keep only some blocks, what embeds images only if it does, and the final norm only if levels leave here.

        Blocks keep their indices, and parameters their names.
        """
        if not is_exit:
            self.norm, self.pool = nn.Identity(), None
        for index in range(self.depth):
            if index not in blocks:
                self.blocks[index] = nn.Identity()
        if not embeds:
            for name in ('patch_embed', 'cls_token', 'reg_token', 'pos_embed'):
                setattr(self, name, None)
            self.norm_pre = nn.Identity()

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Images (B, 3, H, W), any size from one patch up -> tokens (B, N, C) and grid (h, w), N = prefix + h * w.

        Images are padded at the bottom and right to whole patches. Position embeddings are resized without antialiasing
        and by default bicubically, as the released SN-Netv2 does (timm's own default is with).

        Raises:
            ValueError: an image smaller than a patch.
        """
        patches = self.patch_embed.proj(pad_to_patches(images, self.patch_size))
        grid = (patches.shape[2], patches.shape[3])
        tokens = self.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        prefix = [
            token.expand(tokens.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None
        ]
        if self.pos_embed is None:
            return self.norm_pre(self.pos_drop(torch.cat([*prefix, tokens], dim=1))), grid
        pos_embed = resample_abs_pos_embed(
            self.pos_embed,
            new_size=list(grid),
            old_size=list(self.grid_size),
            num_prefix_tokens=0 if self.no_embed_class else self.num_prefix_tokens,
            interpolation=self.resize_mode,
            antialias=False,
        )
        if self.no_embed_class:
            tokens = torch.cat([*prefix, tokens + pos_embed], dim=1)
        else:
            tokens = torch.cat([*prefix, tokens], dim=1) + pos_embed
        return self.norm_pre(self.pos_drop(tokens)), grid

    def run(self, tokens: Tensor, start: int, stop: int, grid: Grid, stand_ins: nn.ModuleDict | None = None) -> Tensor:
        """Tokens (B, N, C) through blocks ``start`` (inclusive) to ``stop`` (exclusive), or what stands in for them.

        Args:
            stand_ins: for some blocks, among them these, by index; default: the anchor's own blocks.
        """
        position = self.position(grid)
        for index in range(start, stop):
            block = stand_ins[str(index)] if stand_ins else self.blocks[index]
            if self.with_cp and torch.is_grad_enabled():
                tokens = checkpoint(self.run_block, tokens, block, index, grid, position, use_reentrant=False)
            else:
                tokens = self.run_block(tokens, block, index, grid, position)
        return tokens

    def position(self, grid: Grid) -> Tensor | None:
        """Position information that all blocks share."""
        return None

    def run_block(self, tokens: Tensor, block: nn.Module, index: int, grid: Grid, position: Tensor | None) -> Tensor:
        """Tokens (B, N, C) through the block at an index, or its stand-in."""
        return block(tokens)

    def out_channels(self, blocks: int) -> int:
        """Channels of what leaves the anchor after so many blocks."""
        width = self.width_after(blocks)
        return width if self.pool is None else self.pool.channels(width)

    def leave(self, tokens: Tensor, grid: Grid, stage: int = 0) -> tuple[Tensor, ...]:
        """Tokens (B, N, C) of a stage -> the tensors of an output level.

        These are a feature map (B, C, h, w), and with ``output_cls_token`` the class token (B, C). By another
        ``out_type``, it is one vector.
        """
        tokens = self.norm_after(stage)(tokens)
        if self.pool is not None:
            return (self.pool(tokens),)
        # A copy: a view would keep all tokens in memory.
        cls_token = (tokens[:, 0].clone(),) if self.output_cls_token else ()
        return (self.to_map(tokens, grid), *cls_token)

    def norm_after(self, stage: int) -> nn.Module:
        """The norm that tokens of a stage pass when they leave."""
        return self.norm

    def to_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) -> feature map (B, C, h, w), without the prefix tokens."""
        return tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid).contiguous()

    def _blocks_of(self, vit: nn.Module) -> Iterable[nn.Module]:
        return vit.blocks

    def _norm_of_maps(self, vit: nn.Module) -> nn.Module:
        return final_norm_of(vit)


def _check_is_plain(vit: nn.Module) -> None:
    if type(vit.patch_embed) is not PatchEmbed:
        raise UserError(f"an anchor needs timm's PatchEmbed, this model has {type(vit.patch_embed).__name__}")
    if not isinstance(getattr(vit, 'patch_drop', None), nn.Identity | None):
        raise UserError('an anchor cannot drop patches, dense heads need them all: leave out patch_drop_rate')


def _check_has_cls_token(vit: nn.Module) -> None:
    if getattr(vit, 'cls_token', None) is None:
        raise UserError(
            f'output_cls_token=True, but this {type(vit).__name__} has no class token: leave it out, and take a head '
            "that reads maps alone (of DPTDepthHead, readout='ignore')"
        )


def final_norm_of(vit: nn.Module) -> nn.Module:
    norm = getattr(vit, 'norm', None)
    if norm is None or isinstance(norm, nn.Identity):
        raise UserError(f'final_norm=True, but this {type(vit).__name__} has no norm after its blocks: leave it out')
    return norm


def pad_to_patches(images: Tensor, patch_size: Grid) -> Tensor:
    height, width = images.shape[-2:]
    if height < patch_size[0] or width < patch_size[1]:
        raise UserError(
            f'image of {height}x{width} is smaller than a patch of {patch_size[0]}x{patch_size[1]}: resize or pad it'
        )
    bottom, right = -height % patch_size[0], -width % patch_size[1]
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images
