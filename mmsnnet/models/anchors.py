"""Anchors: adapters that run timm's plain ViTs block by block. The blocks, embeddings and weights are timm's own."""

import itertools
from collections.abc import Callable, Collection
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed, resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.layers.pos_embed_sincos import RotaryEmbeddingMixed, get_mixed_freqs, get_mixed_grid
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import Attention, VisionTransformerSAM
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmsnnet.errors import UserError
from mmsnnet.models.constants import ConstantCache
from mmsnnet.models.fused_attention import FusedAttention
from mmsnnet.models.pooling import Pooling
from mmsnnet.models.windows import to_windowed
from mmsnnet.settings import check_word

Grid = tuple[int, int]

# Tables of relative positions: one takes 256 MiB at 1024x2048 with patches of 16.
_INDICES = ConstantCache(max_mb=320)


class Anchor(nn.Module):
    """A timm ``VisionTransformer`` whose blocks run in any range: DeiT3, DINOv2, augreg, MAE, CLIP, SigLIP.

    Keeps the parts of ``vit`` that its features need, under timm's names; its classifier is left behind.

    Args:
        vit: a timm model.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
        final_norm: keep the norm after the last block, for the maps that leave the anchor.
        out_type: what leaves the anchor, one of ``OUT_TYPES``. A vector always passes the norm, if there is one.

    Raises:
        ValueError: there is no such norm; the model does not pool in such a way.
    """

    family: type[nn.Module] = VisionTransformer

    def __init__(
        self, vit: nn.Module, with_cp: bool = False, final_norm: bool = False, out_type: str = 'featmap'
    ) -> None:
        super().__init__()
        _check_is_plain(vit)
        self.with_cp = with_cp
        self.patch_embed = vit.patch_embed
        self.cls_token = getattr(vit, 'cls_token', None)
        self.reg_token = getattr(vit, 'reg_token', None)
        self.pos_embed = vit.pos_embed
        self.pos_drop = vit.pos_drop
        self.norm_pre = getattr(vit, 'norm_pre', nn.Identity())
        self.blocks = nn.ModuleList(vit.blocks)
        self.pool = None if out_type == 'featmap' else Pooling(vit, out_type)
        if self.pool is not None:
            self.norm = vit.norm
        else:
            self.norm = _final_norm(vit) if final_norm else nn.Identity()
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
        patches = self.patch_embed.proj(_pad_to_patches(images, self.patch_size))
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

    @property
    def out_channels(self) -> int:
        """Channels of what leaves the anchor."""
        return self.embed_dim if self.pool is None else self.pool.channels(self.embed_dim)

    def leave(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) -> a feature map (B, C, h, w), or by another ``out_type`` a vector (B, ``out_channels``)."""
        tokens = self.norm(tokens)
        return self.to_map(tokens, grid) if self.pool is None else self.pool(tokens)

    def to_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens (B, N, C) -> feature map (B, C, h, w), without the prefix tokens."""
        return tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid).contiguous()


class EvaAnchor(Anchor):
    """A timm ``Eva``: DINOv3 and EVA-02, whose blocks rotate queries and keys by position."""

    family = Eva

    def __init__(self, vit: Eva, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        self.rope = vit.rope
        self.rope_mixed: bool = vit.rope_mixed
        self._constants = ConstantCache(max_mb=64)
        # Some of timm's embeddings keep the angles of one grid and then ignore the one they are asked for.
        if hasattr(self.rope, '_use_cached_embed'):
            self.rope._use_cached_embed = False

    @property
    def position_module(self) -> nn.Module | None:
        return self.rope

    def strip(self, blocks: Collection[int], embeds: bool, is_exit: bool) -> None:
        super().strip(blocks, embeds, is_exit)
        if not blocks:
            self.rope = None

    def position(self, grid: Grid) -> 'Tensor | _MixedRope | None':
        if self.rope is None:
            return None
        # Embeddings with random shifts and scales are drawn anew in training.
        if self.rope.training and getattr(self.rope, 'aug_active', False):
            return self.rope.get_embed(shape=list(grid))
        if self.rope_mixed:
            return _MixedRope(self.rope, self._constant(grid, lambda: _mixed_coordinates(self.rope, grid)))
        return self._constant(grid, lambda: self.rope.get_embed(shape=list(grid)))

    def run_block(
        self, tokens: Tensor, block: nn.Module, index: int, grid: Grid, position: 'Tensor | _MixedRope | None'
    ) -> Tensor:
        return block(tokens, rope=position[index] if self.rope_mixed else position)

    def _constant(self, grid: Grid, make: Callable[[], Tensor]) -> Tensor:
        like = next(itertools.chain(self.rope.buffers(), self.rope.parameters()))
        return self._constants.get(grid, like, make)


class _MixedRope:
    """Rotary embeddings that are learnt per block. Each is computed when its block asks for it."""

    def __init__(self, rope: RotaryEmbeddingMixed, coordinates: Tensor) -> None:
        self.frequencies = rope.freqs
        self.coordinates = coordinates

    def __getitem__(self, block: int) -> Tensor:
        """(heads, h * w, 2 * C) of one block, for heads of C channels."""
        return get_mixed_freqs(self.frequencies[:, block : block + 1], *self.coordinates)[0]


def _mixed_coordinates(rope: RotaryEmbeddingMixed, grid: Grid) -> Tensor:
    """x and y (2, h * w) of all patches."""
    return torch.stack(get_mixed_grid(list(grid), grid_indexing=rope.grid_indexing, device=rope.freqs.device))


class WindowedAnchor(Anchor):
    """A timm ``VisionTransformerSAM``: most blocks attend within windows, some to the whole map, none to a class token.

    Tokens are maps (B, h, w, C).
    """

    family = VisionTransformerSAM

    def __init__(self, vit: VisionTransformerSAM, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        for block in self.blocks:
            if type(block.attn) is Attention:
                # The same layers, computed in another way.
                block.attn.__class__ = FusedAttention

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        patches = self.patch_embed.proj(_pad_to_patches(images, self.patch_size))
        grid = (patches.shape[2], patches.shape[3])
        tokens = self.patch_embed.norm(patches.permute(0, 2, 3, 1))
        if self.pos_embed is not None:
            resized = resample_abs_pos_embed_nhwc(self.pos_embed, list(grid), self.resize_mode, antialias=False)
            tokens = tokens + resized
        return self.norm_pre(self.pos_drop(tokens)), grid

    def to_map(self, tokens: Tensor, grid: Grid) -> Tensor:
        return tokens.permute(0, 3, 1, 2).contiguous()


class BeitAnchor(Anchor):
    """A timm ``Beit``, whose attention adds a relative position bias, per block or shared by all."""

    family = Beit

    def __init__(self, vit: Beit, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        self.rel_pos_bias = vit.rel_pos_bias
        for block in self.blocks:
            # timm's attention builds its bias for one fixed grid. It gets ours, for any grid, as the shared bias; its
            # own, which it would add, becomes nothing.
            block.attn._get_rel_pos_bias = _no_bias

    @property
    def position_module(self) -> nn.Module | None:
        return self.rel_pos_bias

    def strip(self, blocks: Collection[int], embeds: bool, is_exit: bool) -> None:
        super().strip(blocks, embeds, is_exit)
        if not blocks:
            self.rel_pos_bias = None

    def position(self, grid: Grid) -> Tensor | None:
        return None if self.rel_pos_bias is None else self._bias(self.rel_pos_bias.relative_position_bias_table, grid)

    def run_block(self, tokens: Tensor, block: nn.Module, index: int, grid: Grid, position: Tensor | None) -> Tensor:
        table = block.attn.relative_position_bias_table
        if table is not None:
            own = self._bias(table, grid)
            position = own if position is None else own + position
        return block(tokens, shared_rel_pos_bias=position)

    def _bias(self, table: Tensor, grid: Grid) -> Tensor:
        """Bias (heads, N, N) of a table ((2h - 1)(2w - 1) + 3, heads), resized bicubically from the anchor's own grid.

        The last three rows are for the class token and keep their values.
        """
        if grid != self.grid_size:
            height, width = self.grid_size
            relative = table[:-3].T.reshape(1, -1, 2 * height - 1, 2 * width - 1)
            size = (2 * grid[0] - 1, 2 * grid[1] - 1)
            relative = F.interpolate(relative.float(), size=size, mode='bicubic').to(table.dtype)
            table = torch.cat([relative.flatten(2)[0].T, table[-3:]])
        index = _INDICES.get(grid, table, lambda: _relative_position_index(grid, table.device))
        # Unlike an indexed tensor, an embedding takes int32 as it is.
        return F.embedding(index, table).permute(2, 0, 1).contiguous()


def create_anchor(
    model: str,
    with_cp: bool = False,
    windowed: dict | None = None,
    final_norm: bool = False,
    out_type: str = 'featmap',
    norm_eps: float | None = None,
    resize_mode: str = 'bicubic',
    norm_last_block: bool = False,
    **timm_kwargs,
) -> Anchor:
    """An anchor from ``timm.create_model``'s arguments.

    Args:
        model: a name that timm knows.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
        windowed: arguments of ``to_windowed``; default: attention as the model has it.
        final_norm, out_type: of ``Anchor``.
        norm_eps: epsilon of all layer norms; default: the model's.
        resize_mode: how position embeddings are resized, ``'bicubic'`` or ``'bilinear'``.
        norm_last_block: let the norm that follows the blocks be part of the last one. Unlike ``final_norm``, it leaves
            levels after other blocks as they are (MMSegmentation's ViTs).
        **timm_kwargs: other arguments of ``timm.create_model``.

    Raises:
        FileNotFoundError: a local weight file is missing.
        ValueError: timm cannot build this model or load its weights, or it is no plain ViT.
    """
    check_local_files(model, timm_kwargs)
    try:
        vit = timm.create_model(model, num_classes=0, **timm_kwargs)
    # Not only what timm raises: downloads fail in many ways.
    except Exception as error:
        raise UserError(explain(model, timm_kwargs, error)) from error
    vit = vit if windowed is None else _windowed(vit, windowed)
    if norm_last_block:
        vit.blocks[-1].final_norm = _final_norm(vit)
        vit.blocks[-1].register_forward_hook(_apply_final_norm)
    anchor = wrap_vit(vit, with_cp=with_cp, final_norm=final_norm, out_type=out_type)
    anchor.resize_mode = check_word('resize_mode', resize_mode, ('bicubic', 'bilinear'))
    for norm in anchor.modules() if norm_eps is not None else ():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = norm_eps
    return anchor


def wrap_vit(vit: nn.Module, **kwargs) -> Anchor:
    """The adapter of a timm model; ``kwargs`` are its other arguments.

    Raises:
        ValueError: no adapter for this class.
    """
    adapters: tuple[type[Anchor], ...] = (Anchor, WindowedAnchor, EvaAnchor, BeitAnchor)
    # Exact classes: a subclass (distilled, hybrid, ...) has another forward pass, which we would silently ignore.
    for adapter in adapters:
        if type(vit) is adapter.family:
            return adapter(vit, **kwargs)
    known = ', '.join(adapter.family.__name__ for adapter in adapters)
    raise UserError(f"cannot stitch timm's {type(vit).__name__}: an anchor must be one of {known}")


def _windowed(vit: nn.Module, arguments: dict) -> VisionTransformerSAM:
    try:
        return to_windowed(vit, **arguments)
    except TypeError as error:
        raise UserError(f"an anchor's 'windowed' cannot have {arguments}: {error}") from error


def check_compatible(anchors: list[Anchor]) -> None:
    """Raise a ``ValueError`` with both values where two anchors cannot be stitched."""
    first = anchors[0]
    properties: dict[str, Callable[[Anchor], object]] = {
        'class': lambda anchor: anchor.family.__name__,
        'patch size': lambda anchor: anchor.patch_size,
        'number of prefix tokens (class, registers)': lambda anchor: anchor.num_prefix_tokens,
    }
    for index, anchor in enumerate(anchors):
        for name, value in properties.items():
            if value(anchor) != value(first):
                raise UserError(
                    f'anchors 0 and {index} cannot be stitched, they differ in {name}: {value(first)} and '
                    f'{value(anchor)}; choose models of one timm family'
                )


def _check_is_plain(vit: nn.Module) -> None:
    if type(vit.patch_embed) is not PatchEmbed:
        raise UserError(f"an anchor needs timm's PatchEmbed, this model has {type(vit.patch_embed).__name__}")
    if not isinstance(getattr(vit, 'patch_drop', None), nn.Identity | None):
        raise UserError('an anchor cannot drop patches, dense heads need them all: leave out patch_drop_rate')


def _apply_final_norm(block: nn.Module, args: tuple, tokens: Tensor) -> Tensor:
    return block.final_norm(tokens)


def _final_norm(vit: nn.Module) -> nn.Module:
    norm = getattr(vit, 'norm', None)
    if norm is None or isinstance(norm, nn.Identity):
        raise UserError(f'final_norm=True, but this {type(vit).__name__} has no norm after its blocks: leave it out')
    return norm


def _pad_to_patches(images: Tensor, patch_size: Grid) -> Tensor:
    height, width = images.shape[-2:]
    if height < patch_size[0] or width < patch_size[1]:
        raise UserError(
            f'image of {height}x{width} is smaller than a patch of {patch_size[0]}x{patch_size[1]}: resize or pad it'
        )
    bottom, right = -height % patch_size[0], -width % patch_size[1]
    return F.pad(images, (0, right, 0, bottom)) if bottom or right else images


def check_local_files(model: str, timm_kwargs: dict) -> None:
    overlay = timm_kwargs.get('pretrained_cfg_overlay') or {}
    files = [timm_kwargs.get('checkpoint_path')]
    if timm_kwargs.get('pretrained'):
        files.append(overlay.get('file'))
    for file in files:
        if file and not Path(file).is_file():
            raise FileNotFoundError(f'no weight file {str(file)!r} for anchor {model!r}')


def explain(model: str, timm_kwargs: dict, error: Exception) -> str:
    reason = f'{type(error).__name__}: {error}'.splitlines()
    message = f'timm cannot create anchor {model!r} with {timm_kwargs}: {" ".join(reason[:3])}'
    if timm_kwargs.get('pretrained'):
        message += (
            " (a local file: init_cfg=dict(type='TimmPretrained', file=PATH); without weights: no init_cfg and no "
            'pretrained)'
        )
    return message


def _no_bias() -> float:
    return 0.0


def _relative_position_index(grid: Grid, device: torch.device) -> Tensor:
    """Rows of a bias table for all pairs of tokens (N, N), N = 1 + h * w, the class token first; int32."""
    (height, width), places = grid, grid[0] * grid[1]
    rows, columns = (_differences(side, device) for side in grid)
    pairs = (rows * (2 * width - 1))[:, None, :, None] + columns[None, :, None, :]
    index = F.pad(pairs.reshape(places, places), (1, 0, 1, 0))
    # The table's last three rows: class token to patch, patch to class token, class token to itself.
    last = (2 * height - 1) * (2 * width - 1)
    index[0], index[:, 0], index[0, 0] = last, last + 1, last + 2
    return index


def _differences(side: int, device: torch.device) -> Tensor:
    """(side, side) int32: how far each place is behind each other one, from 0 up."""
    places = torch.arange(side, dtype=torch.int32, device=device)
    return places[:, None] - places + side - 1
