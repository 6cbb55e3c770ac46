"""``RouteViT``: one route of a ``StitchedViT``, and nothing else of it."""

from collections.abc import Sequence

from torch import Tensor, nn

from mmsnnet.models.anchors import check_compatible
from mmsnnet.models.stitched_vit import PlainViTBackbone, StitchedViT, check_out_indices
from mmsnnet.registry import MODELS, register
from mmsnnet.stitching import Layer, Plan, Run, StitchSpace, Switch, Tap, make_plan


@register(MODELS)
class RouteViT(PlainViTBackbone):
    """The backbone of an exported stitch: the blocks of its route, with stitching layers folded to plain affine maps.

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
        super().__init__(anchors, with_cp, norm_eval, init_cfg)
        check_compatible(list(self.anchors))
        self.space = StitchSpace([anchor.depth for anchor in self.anchors], two_way=two_way)
        self.out_indices = check_out_indices(out_indices, self.anchors[-1].depth)
        self.route = self.space.find(route)
        self.plan = make_plan(self.space, self.route, self.out_indices)
        self._width = self.anchors[-1].embed_dim
        dims = [anchor.embed_dim for anchor in self.anchors]
        for index, anchor in enumerate(self.anchors):
            anchor.strip(_blocks(self.plan, index), embeds=index == self.route.spans[0].anchor)
        self.up = nn.ModuleList(nn.ModuleDict() for _ in dims[1:])
        self.down = nn.ModuleList(nn.ModuleDict() for _ in dims[1:])
        for direction, pair, k in used_layers(self.plan):
            in_dim, out_dim = (dims[pair], dims[pair + 1]) if direction == 'up' else (dims[pair + 1], dims[pair])
            getattr(self, direction)[pair][str(k)] = nn.Linear(in_dim, out_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> one map (B, C, H / patch, W / patch) per out index, rounded up."""
        return self.advance(self.start(images, self.route.spans[0].anchor), self.plan).levels


def route_state_dict(backbone: StitchedViT, route: int | str) -> dict[str, Tensor]:
    """Weights of a ``StitchedViT`` that its ``RouteViT`` needs, low-rank updates folded in."""
    plan = make_plan(backbone.space, backbone.space.find(route), backbone.out_indices)
    kept = {}
    for index, anchor in enumerate(backbone.anchors):
        blocks = _blocks(plan, index)
        embeds = index == plan[0].anchor
        for name, value in anchor.state_dict().items():
            first, _, rest = name.partition('.')
            if first == 'blocks':
                needed = int(rest.partition('.')[0]) in blocks
            elif first in ('rope', 'rel_pos_bias'):
                needed = bool(blocks)
            else:
                needed = embeds
            if needed:
                kept[f'anchors.{index}.{name}'] = value.clone()
    for key in used_layers(plan):
        layer = backbone.layer(key)
        prefix = f'{key.direction}.{key.pair}.{key.k}.'
        kept |= {f'{prefix}weight': layer.folded_weight(), f'{prefix}bias': layer.bias.detach().clone()}
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
