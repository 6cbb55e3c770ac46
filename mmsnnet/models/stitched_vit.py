"""``StitchedViT``: one backbone that holds every route between its anchors."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsnnet.errors import UserError
from mmsnnet.models.anchors import Anchor, Grid, check_compatible, create_anchor
from mmsnnet.models.compilation import compile_parts
from mmsnnet.models.stitching_layer import StitchingLayer
from mmsnnet.models.weights import init_anchor
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_int, check_list
from mmsnnet.stitching import (
    BudgetTable,
    Layer,
    Plan,
    Record,
    Route,
    Run,
    StitchSpace,
    Switch,
    all_layers,
    make_plan,
    route_of,
)


class State(NamedTuple):
    """How far a pass has come: tokens (B, N, C), their grid (h, w), and the output levels that have left.

    Tokens of windowed anchors are maps (B, h, w, C).
    """

    tokens: Tensor
    grid: Grid
    levels: tuple[Tensor | None, ...]


class PlainViTBackbone(BaseModule):
    """What backbones over anchors share: creating, loading, freezing, and running the steps of a plan.

    Stitching layers, where there are any, lie in ``up`` and ``down`` by pair of anchors and boundary.
    """

    up: nn.ModuleList
    down: nn.ModuleList

    def __init__(self, anchors: Sequence[dict], with_cp: bool, norm_eval: bool, init_cfg: dict | None) -> None:
        super().__init__(init_cfg)
        for anchor in anchors:
            if not isinstance(anchor, Mapping) or 'model' not in anchor:
                raise UserError(f"an anchor must be a dict with the name of a timm model as 'model', got {anchor!r}")
        self.norm_eval = norm_eval
        self._init_cfgs = [anchor.get('init_cfg') for anchor in anchors]
        self._timm_args = [{key: value for key, value in anchor.items() if key != 'init_cfg'} for anchor in anchors]
        self.anchors = nn.ModuleList(create_anchor(with_cp=with_cp, **timm_args) for timm_args in self._timm_args)

    @property
    def out_channels(self) -> int:
        """Channels of every output level: the width of the largest anchor."""
        return self.anchors[-1].embed_dim

    def init_weights(self) -> None:
        """Load what the ``init_cfg`` of anchors and backbone name. timm's own initialisation is left as it is."""
        for anchor, timm_args, init_cfg in zip(self.anchors, self._timm_args, self._init_cfgs, strict=True):
            if init_cfg:
                init_anchor(anchor, timm_args, init_cfg)
        super().init_weights()

    def start(self, images: Tensor, anchor: int) -> State:
        """Embed images (B, 3, H, W) by an anchor."""
        return State(*self.anchors[anchor].embed(images), (None,) * len(self.out_indices))

    def advance(self, state: State, steps: Plan) -> State:
        """Where some steps of a plan lead; the state given stays as it is."""
        tokens, grid, levels = state.tokens, state.grid, list(state.levels)
        for step in steps:
            if isinstance(step, Run):
                tokens = self.anchors[step.anchor].run(tokens, step.start, step.stop, grid)
            elif isinstance(step, Switch):
                tokens = self.layer(step.layer)(tokens)
            else:
                tapped = tokens
                for layer in step.layers:
                    tapped = self.layer(layer)(tapped)
                # Anchors that can be stitched lay their tokens out alike.
                feature_map = self.anchors[0].to_map(tapped, grid)
                for level in step.levels:
                    levels[level] = feature_map
        return State(tokens, grid, tuple(levels))

    def layer(self, layer: Layer) -> nn.Module:
        """The stitching layer of a plan's step."""
        return getattr(self, layer.direction)[layer.pair][str(layer.k)]

    def train(self, mode: bool = True) -> 'PlainViTBackbone':
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


@register(MODELS)
class StitchedViT(PlainViTBackbone):
    """Stitched plain ViTs (SN-Netv2, "Stitched ViTs are Flexible Vision Backbones", ECCV 2024).

    ``forward`` runs the route that is set, at first the largest anchor alone; it never chooses one. The feature maps of
    every route have the largest anchor's width, so that any head fits all routes.

    Args:
        anchors: two or more, from small to large. ``model`` and all other keys go to ``timm.create_model``, so
            ``pretrained=True`` loads weights when the backbone is built. What ``init_cfg`` names (see ``init_anchor``)
            loads in ``init_weights``, when training starts: evaluating a checkpoint then needs no pretrained weights.
        out_indices: blocks (0-based) of the largest anchor after which an output level leaves.
        lora_rank: rank of the stitching layers' trained update; 0 trains their full matrices.
        two_way: SN-Netv2's space; False: SN-Net v1's.
        frozen_anchors: indices of anchors that do not train and stay in evaluation mode.
        with_cp: recompute blocks in the backward pass to save memory.
        norm_eval: keep batch norms of anchors, if they have any, in evaluation mode.
        compile_blocks: compile blocks and stitching layers, each by itself, for all routes to share; True, or arguments
            of ``torch.compile``.
        init_cfg: MMEngine's, for the whole backbone.

    Raises:
        ValueError: fewer than two anchors; anchors that cannot be stitched; an index out of range.
        FileNotFoundError: a local weight file is missing.
    """

    def __init__(
        self,
        anchors: Sequence[dict],
        out_indices: Sequence[int] = (-1,),
        lora_rank: int = 16,
        two_way: bool = True,
        frozen_anchors: Sequence[int] = (),
        with_cp: bool = False,
        norm_eval: bool = False,
        compile_blocks: bool | Mapping = False,
        init_cfg: dict | None = None,
    ) -> None:
        anchors = check_list('anchors', anchors, "[dict(model='deit3_small_patch16_224'), dict(model=...)]")
        if len(anchors) < 2:
            raise UserError(
                f'StitchedViT needs two or more anchors, from small to large, got {len(anchors)}; '
                'for a single ViT use AnchorViT'
            )
        lora_rank = check_int('lora_rank', lora_rank, 0, meaning='0 trains the full matrix')
        super().__init__(anchors, with_cp, norm_eval, init_cfg)
        check_compatible(list(self.anchors))
        self.space = StitchSpace([anchor.depth for anchor in self.anchors], two_way=two_way)
        self.out_indices = check_out_indices(out_indices, self.anchors[-1].depth)
        self.up, self.down = nn.ModuleList(), nn.ModuleList()
        self._add_stitching_layers(lora_rank)
        self._budgets: BudgetTable | None = None
        self._plans = [make_plan(self.space, route, self.out_indices) for route in self.space]
        self.set_route(len(self.anchors) - 1)
        self.frozen_anchors = _check_anchor_indices(frozen_anchors, len(self.anchors))
        for index in self.frozen_anchors:
            self.anchors[index].requires_grad_(False)
        compile_parts(self, compile_blocks)

    @property
    def route(self) -> Route:
        """The route that ``forward`` runs."""
        return self._route

    @property
    def plan(self) -> Plan:
        """Steps of the route that ``forward`` runs."""
        return self._plan

    def set_route(self, route: int | str | Route) -> Route:
        """Set the route to run, by id, name or value; allocates nothing. Returns it.

        Raises:
            ValueError: no such route.
        """
        self._route = self.space.find(route)
        self._plan = self._plans[self._route.id]
        return self._route

    def use(self, records: Sequence[Record], metric: str | None = None) -> None:
        """Let ``set_budget`` choose by these records of this model, ranked by ``metric`` (mIoU or a box AP).

        Raises:
            ValueError: a record of another space.
        """
        for record in records:
            route_of(self.space, record)
        self._budgets = BudgetTable(records, metric)

    def set_budget(self, **budgets: float) -> Route:
        """Set the best route that costs at most so many ``gflops``, ``latency_ms``, ``memory_mb`` or ``params_m``.

        Takes microseconds. Returns the route.

        Raises:
            ValueError: no records to choose by, or none within the budget; the nearest one is named.
        """
        if self._budgets is None:
            raise UserError('no records to choose by: call use(read_records("stitches.json")) first')
        return self.set_route(self._budgets.best(**budgets).id)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> one map (B, C, H / patch, W / patch) per out index, rounded up, C = ``out_channels``.

        Raises:
            ValueError: an image smaller than a patch.
        """
        return self.advance(self.start(images, self._route.spans[0].anchor), self._plan).levels

    def train(self, mode: bool = True) -> 'StitchedViT':
        super().train(mode)
        for index in self.frozen_anchors:
            self.anchors[index].eval()
        return self

    def _add_stitching_layers(self, lora_rank: int) -> None:
        dims = [anchor.embed_dim for anchor in self.anchors]
        for _ in dims[1:]:
            self.up.append(nn.ModuleDict())
            self.down.append(nn.ModuleDict())
        for direction, pair, k in all_layers(self.space):
            in_dim, out_dim = (dims[pair], dims[pair + 1]) if direction == 'up' else (dims[pair + 1], dims[pair])
            getattr(self, direction)[pair][str(k)] = StitchingLayer(in_dim, out_dim, lora_rank)


@register(MODELS)
class AnchorViT(PlainViTBackbone):
    """One plain timm ViT alone, with the features and options it has as an anchor: the baseline of a stitched model.

    Args:
        anchor: ``model`` and other arguments of ``timm.create_model``, or ``init_cfg``, as for ``StitchedViT``.
        out_indices: blocks (0-based) after which an output level leaves.
        with_cp, norm_eval, compile_blocks, init_cfg: as for ``StitchedViT``.
    """

    def __init__(
        self,
        anchor: dict,
        out_indices: Sequence[int] = (-1,),
        with_cp: bool = False,
        norm_eval: bool = False,
        compile_blocks: bool | Mapping = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__([anchor], with_cp, norm_eval, init_cfg)
        self.out_indices = check_out_indices(out_indices, self.anchors[0].depth)
        compile_parts(self, compile_blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> one map (B, C, H / patch, W / patch) per out index, rounded up."""
        anchor: Anchor = self.anchors[0]
        tokens, grid = anchor.embed(images)
        levels, start = [], 0
        for index in self.out_indices:
            tokens = anchor.run(tokens, start, index + 1, grid)
            levels.append(anchor.to_map(tokens, grid))
            start = index + 1
        return tuple(levels)


def check_out_indices(out_indices: Sequence[int], depth: int) -> tuple[int, ...]:
    """Out indices with negative ones counted from the end.

    Raises:
        UserError: none given, one beyond the depth, or an order that does not rise.
    """
    indices = check_list('out_indices', out_indices, f'[{depth - 1}]')
    blocks = f'blocks of the largest anchor, 0 to {depth - 1}'
    if not indices:
        raise UserError(f'out_indices is empty: give one or more {blocks}')
    blocks_of = [check_int('an out index', index, -depth, depth - 1, blocks) % depth for index in indices]
    if any(first >= second for first, second in pairwise(blocks_of)):
        raise UserError(f'out_indices must rise, as the levels do that leave the backbone, got {out_indices}')
    return tuple(blocks_of)


def _check_anchor_indices(indices: Sequence[int], count: int) -> tuple[int, ...]:
    listed = check_list('frozen_anchors', indices, '[0]')
    return tuple(check_int('an index in frozen_anchors', index, 0, count - 1) for index in listed)
