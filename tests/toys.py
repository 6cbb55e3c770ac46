"""Toy anchors of every family: a few narrow blocks whose parameters are all random, so that each one matters."""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from mmsnnet.models import StitchedViT
from mmsnnet.models.anchors import wrap_vit
from mmsnnet.stitching import Cost, CostTable, StitchSpace, all_layers, make_plan

SHARED = Path(__file__).parents[1].parent / 'shared'
DATA = Path(__file__).parent / 'data'

# Grids of 2 x 3 patches: a mix-up of height and width shows.
P14, P16 = {'img_size': (28, 42)}, {'img_size': (32, 48)}
FAMILIES = {
    'deit3': dict(model='deit3_small_patch16_224', **P16),
    'dinov2': dict(model='vit_small_patch14_dinov2', **P14),
    'dinov2-reg4': dict(model='vit_small_patch14_reg4_dinov2', **P14),
    'augreg': dict(model='vit_small_patch16_224', **P16),
    'clip': dict(model='vit_base_patch16_clip_224', **P16),
    'siglip': dict(model='vit_base_patch16_siglip_224', **P16),
    'dinov3': dict(model='vit_small_patch16_dinov3', **P16),
    'eva02': dict(model='eva02_tiny_patch14_224', **P14),
    'rope': dict(model='vit_small_patch16_rope_224', **P16),
    'rope-mixed': dict(model='vit_small_patch16_rope_mixed_224', **P16),
    'rope-mixed-ape': dict(model='vit_small_patch16_rope_mixed_ape_224', **P16),
    'beit': dict(model='beit_base_patch16_224', **P16),
    'beit-abs': dict(model='beit_base_patch16_224', use_abs_pos_emb=True, **P16),
    'beit-shared': dict(
        model='beit_base_patch16_224', use_rel_pos_bias=False, use_shared_rel_pos_bias=True, use_abs_pos_emb=True, **P16
    ),
    'sam': dict(model='samvit_base_patch16', window_size=2, global_attn_indexes=(1,), **P16),
    'beit-both': dict(model='beit_base_patch16_224', use_shared_rel_pos_bias=True, **P16),
    'swin': dict(
        model='swin_tiny_patch4_window7_224',
        patch_size=16,
        window_size=2,
        always_partition=True,
        drop_path_rate=0.0,
        **P16,
    ),
}
# Without stages: all tokens have one width, and all maps one size.
PLAIN = [family for family in FAMILIES if family != 'swin']


def toy_anchor(family: str = 'deit3', depth: int = 2, width: int = 16, **timm_kwargs) -> dict:
    """Arguments of ``create_anchor``."""
    sizes = {'depth': depth, 'num_heads': 2}
    if family == 'swin' and depth > 1:
        sizes = {'depths': (depth // 2, depth - depth // 2), 'num_heads': (2, 4)}
    elif family == 'swin':
        sizes = {'depths': (1,), 'num_heads': (2,)}
    return {**FAMILIES[family], 'embed_dim': width, **sizes, **timm_kwargs}


def toy_vit(family: str = 'deit3', depth: int = 2, width: int = 16, **timm_kwargs) -> nn.Module:
    """The timm model of an anchor's arguments."""
    arguments = toy_anchor(family, depth, width, **timm_kwargs)
    return timm.create_model(arguments.pop('model'), **arguments)


def toy_anchors(family: str = 'deit3', depths: Sequence[int] = (2, 4), **timm_kwargs) -> list[dict]:
    """Anchors of widths 16, 32, 48, ..."""
    return [toy_anchor(family, depth, 16 * (i + 1), **timm_kwargs) for i, depth in enumerate(depths)]


def toy_vit_like(
    family: str,
    weights: dict[str, Tensor],
    depth: int = 2,
    width: int = 16,
    out_type: str = 'featmap',
    **timm_kwargs,
) -> nn.Module:
    """A fresh timm model in evaluation mode that has an anchor's weights."""
    named, vit = (toy_vit(family, depth, width, **timm_kwargs) for _ in range(2))
    # An anchor's modules are timm's own, which know their names there.
    wrap_vit(named, out_type=out_type).load_state_dict(weights)
    vit.load_state_dict(named.state_dict())
    return vit.eval()


@torch.no_grad()
def timm_features(vit: nn.Module, images: Tensor, blocks: Sequence[int] | None = None) -> list[Tensor]:
    """Maps (B, C, h, w) after some blocks of a timm model, or after all, by timm's own forward pass."""
    if not isinstance(vit, SwinTransformer):
        return vit.forward_intermediates(images, blocks, norm=False, intermediates_only=True)
    maps: list[Tensor] = []
    every_block = [block for stage in vit.layers for block in stage.blocks]
    for block in every_block:
        block.register_forward_hook(lambda block, args, tokens: maps.append(tokens.permute(0, 3, 1, 2)))
    vit.forward_features(images)
    return [maps[block] for block in (range(len(every_block)) if blocks is None else blocks)]


def toy_backbone(
    family: str = 'deit3',
    depths: Sequence[int] = (2, 4),
    out_indices: Sequence[int] = (1, 3),
    lora_rank: int = 2,
    timm_kwargs: dict | None = None,
    **kwargs,
) -> StitchedViT:
    """A ``StitchedViT`` in evaluation mode with random weights, the same each time."""
    anchors = toy_anchors(family, depths, **(timm_kwargs or {}))
    return randomise(StitchedViT(anchors, out_indices, lora_rank, **kwargs)).eval()


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter. Fresh ones hide much: LayerScale at 1e-6, biases, bias tables and updates at zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        is_matrix = parameter.ndim in (2, 4)
        parameter.copy_(noise / parameter[0].numel() ** 0.5 if is_matrix else 0.5 + 0.5 * noise)
    return module


def toy_images(height: int = 32, width: int = 48, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def native_images(family: str, **kwargs) -> Tensor:
    """Images of the size the family's toys were created for."""
    return toy_images(*FAMILIES[family]['img_size'], **kwargs)


def deit3_s_l_costs() -> CostTable:
    """DeiT3-S/L with SETR-naive, 150 classes, at 512x512, from the formulas of the published costs."""
    space = StitchSpace((12, 24))
    tokens, widths = 1025, (384, 1024)
    parts = {('rest', 1): Cost(920_125_440)}
    for anchor, (depth, width) in enumerate(zip(space.depths, widths, strict=True)):
        parts['position', anchor] = parts['exit', anchor, 0] = Cost()
        parts['embed', anchor] = Cost(1024 * 768 * width)
        block = Cost(12 * tokens * width**2 + 2 * tokens**2 * width + 10 * tokens * width)
        parts |= {(anchor, index): block for index in range(depth)}
    parts |= dict.fromkeys(all_layers(space), Cost(tokens * widths[0] * widths[1]))
    plans = [make_plan(space, route, (9, 14, 19, 23)) for route in space]
    return CostTable(plans, parts, used_levels={1: [3]})


def outputs_of_all(backbone: StitchedViT, images: Tensor) -> dict[str, tuple[Tensor, ...]]:
    outputs = {}
    with torch.no_grad():
        for route in backbone.space:
            backbone.set_route(route)
            outputs[route.name] = backbone(images)
    return outputs


def assert_same_outputs(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, outputs in first.items():
        assert all(torch.equal(output, other) for output, other in zip(outputs, second[name], strict=True)), name
