"""Checks that a model's heads serve the exits of its backbone."""

import re
from collections.abc import Mapping, Sequence

from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.models import PerExit, StitchedViT, find_backbone

PerExits = Mapping[str, PerExit]


def check_exits(model: nn.Module) -> None:
    """Refuse a model whose heads do not serve the exits of its backbone.

    Raises:
        ValueError: naming the head, and what its config should say.
    """
    backbone = find_backbone(model)
    per_exit = {name: module for name, module in model.named_modules() if isinstance(module, PerExit)}
    if not backbone.own_exits:
        for name in per_exit:
            raise UserError(
                f"{name} is a PerExit, but exits are shared: set exits='own' in the backbone, or take one {name}"
            )
        return
    readers = _readers(model)
    _check_all_per_exit(readers, per_exit, len(backbone.anchors))
    _check_exact(per_exit, backbone)
    _check_widths({name: per_exit[name] for name in readers}, backbone)


def check_finished(backbone: StitchedViT, has_checkpoint: bool) -> None:
    """Refuse to train beside anchors that nothing loads.

    Args:
        has_checkpoint: whether the whole model comes from a checkpoint.

    Raises:
        ValueError: naming the anchor.
    """
    for index, weights in enumerate(backbone.weight_sources):
        if backbone.exact and not weights and not has_checkpoint:
            raise UserError(
                f'anchor {index} stays as it is (exact={backbone.exact!r}), but nothing loads its weights: give it '
                "init_cfg=dict(type='Pretrained', checkpoint=PATH, prefix='backbone.anchors.0.'), or set load_from"
            )


def listed(channels: int | Sequence[int]) -> Sequence[int]:
    """``in_channels`` of a head that reads one level or several."""
    return channels if isinstance(channels, list | tuple) else [channels]


def _readers(model: nn.Module) -> list[str]:
    """The parts of a model that read the backbone's maps: its neck, or else its heads."""
    names = [name for name, _ in model.named_modules() if re.fullmatch(r'neck|[^.]+_head(\.\d+)?', name)]
    # A list of heads is none itself.
    return ['neck'] if 'neck' in names else [name for name in names if f'{name}.0' not in names]


def _check_all_per_exit(readers: Sequence[str], per_exit: PerExits, num_anchors: int) -> None:
    for name in readers:
        if name not in per_exit:
            raise UserError(
                f"the backbone has exits='own', but there is one {name} for all: make it a PerExit with one of its "
                f'kind for each of the {num_anchors} anchors'
            )


def _check_exact(per_exit: PerExits, backbone: StitchedViT) -> None:
    for name, head in per_exit.items():
        if head.exact != bool(backbone.exact):
            raise UserError(
                f'the backbone has exact={backbone.exact!r}, but {name} has exact={head.exact}: anchors and heads '
                f'are finished together; set exact={bool(backbone.exact)} in {name}'
            )


def _check_widths(readers: PerExits, backbone: StitchedViT) -> None:
    """Check that there is a head for each exit, and that it reads maps of the width that leave there."""
    for exit_ in sorted({backbone.plan_of(route)[-1].exit for route in backbone.space}):
        width = backbone.anchors[exit_.anchor].embed_dim
        for name, head in readers.items():
            try:
                channels = getattr(head.head(exit_), 'in_channels', width)
            except UserError as error:
                raise UserError(f'{name}: {error}') from error
            if set(listed(channels)) != {width}:
                raise UserError(
                    f'the head of {name} for anchor {exit_.anchor} has in_channels={channels}, but the maps that leave '
                    f'there have width {width}: set in_channels to {width}'
                )
