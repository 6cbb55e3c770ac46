"""Plain ViTs with windowed attention ("Exploring Plain Vision Transformer Backbones for Object Detection": ViTDet)."""

from collections.abc import Sequence

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from timm.models.vision_transformer_sam import Block as WindowedBlock
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

from mmsnnet.errors import UserError

_BLOCK_PARTS = ('norm1', 'ls1', 'drop_path1', 'norm2', 'mlp', 'ls2', 'drop_path2')
_ATTENTION_PARTS = ('qkv', 'q_norm', 'k_norm', 'attn_drop', 'proj', 'proj_drop')


def to_windowed(
    vit: VisionTransformer,
    window_size: int = 14,
    global_attn_indexes: Sequence[int] | None = None,
    img_size: int | tuple[int, int] = 1024,
    use_rel_pos: bool = True,
) -> VisionTransformerSAM:
    """timm's windowed ViT with the layers and weights of a plain one.

    Class and register tokens stay behind. Position embeddings keep the grid of ``vit`` and are resized to an image's
    when it is embedded. Decomposed relative positions start at zero.

    Args:
        vit: DeiT3, DINOv2, augreg, MAE, ...; its modules become the new model's.
        window_size: patches along a window's side. Maps are padded to whole windows.
        global_attn_indexes: blocks (0-based) that attend to the whole map; by default the last of each quarter.
        img_size: (height, width) in pixels, or one number for both: the size of the global blocks' tables of relative
            positions, which are resized for images of other sizes.
        use_rel_pos: whether attention adds relative positions.

    Raises:
        ValueError: a model without timm's plain blocks, or a block index beyond its depth.
    """
    _check_is_plain(vit)
    depth = len(vit.blocks)
    if global_attn_indexes is None:
        global_attn_indexes = _default_global_blocks(depth)
    _check_global_blocks(global_attn_indexes, depth)
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    patch_height, patch_width = vit.patch_embed.patch_size
    grid = (-(-height // patch_height), -(-width // patch_width))
    windowed = VisionTransformerSAM(
        vit.patch_embed.img_size, vit.patch_embed.patch_size, embed_dim=vit.embed_dim, depth=0, num_classes=0
    )
    windowed.neck = nn.Identity()
    windowed.patch_embed, windowed.pos_drop, windowed.norm_pre = vit.patch_embed, vit.pos_drop, vit.norm_pre
    windowed.pos_embed = _position_map(vit)
    windowed.blocks = nn.Sequential(
        *(
            _windowed_block(block, 0 if index in global_attn_indexes else window_size, grid, use_rel_pos)
            for index, block in enumerate(vit.blocks)
        )
    )
    return windowed


def _default_global_blocks(depth: int) -> tuple[int, ...]:
    """The last block of each quarter: 2, 5, 8, 11 of 12, and 5, 11, 17, 23 of 24."""
    return tuple(sorted({-(-quarter * depth // 4) - 1 for quarter in range(1, 5)}))


def _check_global_blocks(indexes: Sequence[int], depth: int) -> None:
    """Raise a ``ValueError`` where a block does not exist."""
    for index in indexes:
        if not 0 <= index < depth:
            raise UserError(f'global_attn_indexes has {index}, but the blocks are 0..{depth - 1}')


def _check_is_plain(vit: nn.Module) -> None:
    """Raise a ``ValueError`` where a model is none whose attention can be given windows."""
    if type(vit) is not VisionTransformer:
        raise UserError(f"only timm's VisionTransformer can be given windows, got {type(vit).__name__}")
    if not isinstance(getattr(vit, 'patch_drop', None), nn.Identity | None):
        raise UserError('an anchor cannot drop patches, dense heads need them all: leave out patch_drop_rate')
    for block in vit.blocks:
        attention = getattr(block, 'attn', None)
        if type(block) is not Block or type(attention) is not Attention:
            raise UserError(
                f"only timm's plain blocks can be given windows, got {type(block).__name__} with "
                f'{type(attention).__name__}'
            )
        if getattr(attention, 'gate', None) is not None or not isinstance(attention.norm, nn.Identity):
            raise UserError('attention with a gate or a norm of its output cannot be given windows')
        if attention.attn_dim != attention.qkv.in_features:
            raise UserError(
                f'attention of width {attention.attn_dim} in a model of width {attention.qkv.in_features} cannot be '
                'given windows'
            )


def _position_map(vit: VisionTransformer) -> nn.Parameter | None:
    """Position embedding (1, h, w, C) without that of class and register tokens."""
    if vit.pos_embed is None:
        return None
    grid = vit.patch_embed.grid_size
    positions = vit.pos_embed.detach()[:, -grid[0] * grid[1] :]
    return nn.Parameter(positions.unflatten(1, grid).clone())


def _windowed_block(block: Block, window_size: int, grid: tuple[int, int], use_rel_pos: bool) -> WindowedBlock:
    """A block made of another's layers; ``window_size`` 0 is global attention over a ``grid``."""
    attention = block.attn
    # Its own layers are never used: made on no device, they take no time and no random numbers.
    windowed = WindowedBlock(
        attention.qkv.in_features,
        attention.num_heads,
        use_rel_pos=use_rel_pos,
        window_size=window_size,
        input_size=grid,
        device='meta',
    )
    for name in _BLOCK_PARTS:
        setattr(windowed, name, getattr(block, name))
    for name in _ATTENTION_PARTS:
        setattr(windowed.attn, name, getattr(attention, name))
    if use_rel_pos:
        for name in ('rel_pos_h', 'rel_pos_w'):
            setattr(windowed.attn, name, nn.Parameter(torch.zeros(getattr(windowed.attn, name).shape)))
    return windowed
