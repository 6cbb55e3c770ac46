"""``RouteViT``: one route of a ``StitchedViT``, and nothing else of it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmsnnet.models.backbone import PlainViTBackbone
from mmsnnet.models.stitched_vit import StitchedViT
from mmsnnet.models.weights import without_pretrained
from mmsnnet.registry import MODELS, register
from mmsnnet.stitching import Layer, Plan, Run, Switch, Tap, make_plan


@register(MODELS)
class RouteViT(PlainViTBackbone):
    """The backbone of an exported route: its blocks, with stitching layers folded to plain affine maps.

    Parameters have the names they have in the ``StitchedViT``.

    Args:
        anchors, out_indices, two_way, with_cp, norm_eval, init_cfg: as for ``StitchedViT``.
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
        with_cp: bool = False,
        norm_eval: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(anchors, out_indices, two_way, with_cp, norm_eval, init_cfg)
        self.route = self.space.find(route)
        self.plan = make_plan(self.space, self.route, self.out_indices)
        for index, anchor in enumerate(self.anchors):
            anchor.strip(_blocks(self.plan, index), embeds=index == self.route.spans[0].anchor)
        self._add_layers(used_layers(self.plan), nn.Linear)


def route_state_dict(backbone: StitchedViT, route: int | str) -> dict[str, Tensor]:
    """Weights of a ``StitchedViT`` that its ``RouteViT`` needs, low-rank updates folded in."""
    anchors = [without_pretrained(timm_args) for timm_args in backbone.timm_args]
    with torch.device('meta'):
        slim = RouteViT(anchors, route, backbone.out_indices, backbone.space.is_two_way)
    weights = backbone.state_dict()
    kept = {name: weights[name].clone() for name in slim.state_dict()}
    for key in used_layers(slim.plan):
        layer, prefix = backbone.layer(key), f'{key.direction}.{key.pair}.{key.k}'
        kept |= {f'{prefix}.weight': layer.folded_weight(), f'{prefix}.bias': layer.bias.detach().clone()}
    return kept


def used_layers(plan: Plan) -> list[Layer]:
    """Stitching layers of a plan, each once."""
    layers: dict[Layer, None] = {}
    for step in plan:
        if isinstance(step, Switch):
            layers[step.layer] = None
        elif isinstance(step, Tap):
            layers |= dict.fromkeys(step.layers)
    return list(layers)


def _blocks(plan: Plan, anchor: int) -> set[int]:
    runs = (step for step in plan if isinstance(step, Run) and step.anchor == anchor)
    return {block for run in runs for block in range(run.start, run.stop)}
