"""``RouteViT``: one route of a ``StitchedViT``, and nothing else of it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmsnnet.models.backbone import AnchorBackbone
from mmsnnet.models.stitched_vit import StitchedViT
from mmsnnet.models.tuning import block_weights
from mmsnnet.models.weights import without_pretrained
from mmsnnet.registry import MODELS, register
from mmsnnet.stitching import Plan, Run
from mmsnnet.stitching.plan import used_layers


@register(MODELS)
class RouteViT(AnchorBackbone):
    """The backbone of an exported route: its blocks, with stitching layers folded to plain affine maps.

    Parameters have the names they have in the ``StitchedViT``.

    Args:
        anchors, out_indices, two_way, window, exits, final_norm: as for ``StitchedViT``.
        out_type, output_cls_token, with_cp, norm_eval, init_cfg: likewise.
        route: id or name.

    Raises:
        ValueError: no such route; anchors that cannot be stitched.
    """

    def __init__(
        self,
        anchors: Sequence[dict],
        route: int | str,
        out_indices: Sequence[int] = (-1,),
        two_way: bool = True,
        window: int | None = None,
        exits: str = 'shared',
        final_norm: bool = False,
        out_type: str = 'featmap',
        output_cls_token: bool = False,
        with_cp: bool = False,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            anchors,
            out_indices,
            two_way,
            window,
            exits,
            final_norm,
            out_type,
            output_cls_token,
            with_cp,
            norm_eval,
            init_cfg,
        )
        self.route = self.space.find(route)
        self.plan = self.plan_of(self.route)
        for index, anchor in enumerate(self.anchors):
            embeds, is_exit = index == self.route.spans[0].anchor, index == self.exit.anchor
            anchor.strip(_blocks(self.plan, index), embeds, is_exit)
        self._add_layers(used_layers(self.plan), nn.Linear)

    def leave(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...] | tuple[list[Tensor], ...]:
        # A single route has a single exit, so its heads need not ask.
        return self.pair_up(levels)


def route_state_dict(backbone: StitchedViT, route: int | str) -> dict[str, Tensor]:
    """Weights of a ``StitchedViT`` that its ``RouteViT`` needs, low-rank updates and stand-ins of blocks folded in."""
    anchors = [without_pretrained(timm_args) for timm_args in backbone.timm_args]
    exits = 'own' if backbone.own_exits else 'shared'
    with torch.device('meta'):
        slim = RouteViT(
            anchors,
            route,
            backbone.out_indices,
            backbone.space.is_two_way,
            backbone.space.window,
            exits,
            backbone.final_norm,
            backbone.out_type,
            backbone.output_cls_token,
        )
    weights = backbone.state_dict()
    kept = {name: weights[name] for name in slim.state_dict()}
    plan = backbone.plan_of(slim.route)
    for key in used_layers(plan):
        layer, prefix = backbone.layer(key), f'{key.direction}.{key.pair}.{key.k}'
        kept |= {f'{prefix}.weight': layer.folded_weight(), f'{prefix}.bias': layer.bias.detach()}
    for run in plan:
        if isinstance(run, Run) and run.tuning:
            for index in range(run.start, run.stop):
                block = block_weights(backbone.stand_ins(run)[str(index)])
                kept |= {f'anchors.{run.anchor}.blocks.{index}.{name}': value for name, value in block.items()}
    return {name: value.clone() for name, value in kept.items()}


def _blocks(plan: Plan, anchor: int) -> set[int]:
    runs = (step for step in plan if isinstance(step, Run) and step.anchor == anchor)
    return {block for run in runs for block in range(run.start, run.stop)}
