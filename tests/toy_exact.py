"""Toy jobs made exact: two finished models, each with its heads, and what routes with a switch train beside them."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from torch import nn
from toys import randomise

from mmsnnet.building import build_model

PARTS = ('neck', 'decode_head', 'auxiliary_head', 'rpn_head', 'roi_head', 'head')


def widths_of(cfg: Config) -> list[int]:
    return [anchor['embed_dim'] for anchor in cfg.model.backbone.anchors]


def make_exact(cfg: Config, way: str | None = 'adapters', own_tunings: Sequence[str] = ()) -> Config:
    """A stitched toy job with own exits; all anchors train if ``way`` is None."""
    cfg = copy.deepcopy(cfg)
    exact = {} if way is None else dict(exact=way, adapter_rank=2, own_tunings=list(own_tunings))
    cfg.model.backbone.update(exits='own', **exact)
    for name in PARTS:
        if cfg.model.get(name) is not None:
            heads = [_of_anchor(cfg, name, index) for index in range(len(widths_of(cfg)))]
            cfg.model[name] = ConfigDict(
                type='mmsnnet.PerExit', heads=heads, exact=way is not None, own_tunings=list(own_tunings)
            )
    return cfg


def with_weights(cfg: Config, folder: Path) -> Config:
    """The exact job with anchors and heads that start from weights of their own, as finished ones do."""
    path = folder / 'anchors.pth'
    torch.save(randomise(build_model(cfg.copy())).state_dict(), path)
    parts = {'backbone': cfg.model.backbone.anchors}
    parts |= {name: cfg.model[name].heads for name in PARTS if cfg.model.get(name) is not None}
    for name, anchors in parts.items():
        for index, anchor in enumerate(anchors):
            anchor.init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix=f'{name}.anchors.{index}.')
    return cfg


def anchor_config(cfg: Config, index: int) -> Config:
    """The job of an anchor alone, whose model is finished before it is stitched."""
    cfg = copy.deepcopy(cfg)
    for name in PARTS:
        if cfg.model.get(name) is not None:
            cfg.model[name] = _of_anchor(cfg, name, index)
    backbone = cfg.model.backbone
    out_indices = backbone.get('out_indices', (-1,))
    depths = [anchor['depth'] for anchor in backbone.anchors]
    # Depths 2 and 4: block s of the small anchor stands for blocks 2s and 2s + 1 of the large one.
    own = tuple(block % depths[-1] * depths[index] // depths[-1] for block in out_indices)
    kept = {key: backbone[key] for key in ('out_type',) if key in backbone}
    cfg.model.backbone = ConfigDict(type='mmsnnet.AnchorViT', anchor=backbone.anchors[index], out_indices=own, **kept)
    cfg.custom_hooks, cfg.val_cfg, cfg.test_cfg = [], dict(type='ValLoop'), dict(type='TestLoop')
    return cfg


def finished(cfg: Config, model: nn.Module, index: int) -> nn.Module:
    """The finished model that an exact model holds: an anchor and its heads, with their weights, alone."""
    alone = build_model(anchor_config(cfg, index))
    weights = {}
    for name, value in model.state_dict().items():
        part, *rest = name.split('.')
        if part == 'backbone':
            is_mine, inner = name.startswith(f'backbone.anchors.{index}.'), ['anchors', '0', *rest[2:]]
        elif part in PARTS:
            is_mine, inner = name.startswith(f'{part}.anchors.{index}.'), rest[2:]
        else:
            is_mine, inner = True, rest
        if is_mine:
            weights['.'.join([part, *inner])] = value
    alone.load_state_dict(weights)
    return alone.eval()


def _of_anchor(cfg: Config, name: str, index: int) -> ConfigDict:
    head = copy.deepcopy(cfg.model[name])
    if 'heads' in head:
        return head.heads[index]
    first = 'neck' if cfg.model.get('neck') is not None else name
    if name == first:
        head.in_channels = widths_of(cfg)[index]
    return head
