"""``StitchedViT``: one backbone that holds every route between its anchors."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.models.backbone import AnchorBackbone
from mmsnnet.models.compilation import compile_parts
from mmsnnet.models.stitching_layer import StitchingLayer
from mmsnnet.models.tuning import WAYS, Tuning
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_int, check_list, check_word
from mmsnnet.stitching import (
    SHARED,
    BudgetTable,
    Layer,
    Plan,
    Record,
    Route,
    Run,
    StitchSpace,
    all_layers,
    route_of,
)
from mmsnnet.stitching.plan import used_layers

Backbone = TypeVar('Backbone', bound=AnchorBackbone)


@register(MODELS)
class StitchedViT(AnchorBackbone):
    """Stitched ViTs (SN-Netv2, "Stitched ViTs are Flexible Vision Backbones", ECCV 2024), plain ones or Swins.

    ``forward`` runs the route that is set, at first the largest anchor alone; it never chooses one. In the paper, the
    feature maps of every route have the largest anchor's widths, so that any head fits all routes. With ``exits='own'``
    they have the width of the route's last anchor, and neck and heads are ``PerExit``.

    With ``exact``, anchors are finished models: they do not train, and their routes stay what they are. Routes with a
    switch train a tuning beside them (see ``Tuning``).

    Args:
        anchors: two or more, from small to large. ``model`` and all other keys go to ``timm.create_model``, so
            ``pretrained=True`` loads weights when the backbone is built. What ``init_cfg`` names (see ``init_anchor``)
            loads in ``init_weights``, when training starts: evaluating a checkpoint then needs no pretrained weights.
        out_indices: blocks (0-based) of the largest anchor after which an output level leaves. Blocks of a Swin
            count over all its stages.
        lora_rank: rank of the stitching layers' trained update; 0 trains their full matrices.
        two_way: SN-Netv2's space; False: SN-Net v1's.
        window: of ``StitchSpace``: SN-Net v1's sliding window, for anchors of one depth or with stages, one way.
        exits: ``'shared'``: levels leave at the width of the largest anchor; ``'own'``: of the route's last anchor.
        final_norm: let maps pass the norm that follows the blocks of the anchor where they leave (DINO models), and
            those of a Swin's earlier stages a new one.
        out_type: ``'featmap'``: feature maps leave. For classifiers, one vector leaves after the last block and the
            anchor's norm: ``'pooled'``, as the timm model pools; ``'cls_and_avg'``, class token and mean of patches.
        output_cls_token: let the class token leave beside each map, as in MMSegmentation's ViT: a level is then a list
            of a map (B, C, h, w) and a token (B, C).
        exact: ``'adapters'`` or ``'copies'``: keep the anchors as they are, and train low-rank updates of their blocks,
            or copies of these, for routes with a switch. Needs ``exits='own'``. None: all weights train.
        adapter_rank: rank of the low-rank updates.
        own_tunings: routes, by name or id, that train a tuning and stitching layers of their own; the others share one.
        frozen_anchors: indices of anchors that do not train and stay in evaluation mode.
        with_cp: recompute blocks in the backward pass to save memory.
        norm_eval: keep batch norms of anchors, if they have any, in evaluation mode.
        compile_blocks: compile blocks and stitching layers, each by itself, for all routes to share; True, or arguments
            of ``torch.compile``.
        init_cfg: MMEngine's, for the whole backbone.

    Attributes:
        trained_routes: ids of the routes that the last training has trained, and of finished anchors; None where this
            is unknown. ``StitchSamplingHook`` sets it, also from a checkpoint.

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
        window: int | None = None,
        exits: str = 'shared',
        final_norm: bool = False,
        out_type: str = 'featmap',
        output_cls_token: bool = False,
        exact: str | None = None,
        adapter_rank: int = 32,
        own_tunings: Sequence[int | str] = (),
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
        self.exact = _check_exact(exact, exits, own_tunings)
        self.lora_rank = lora_rank
        self._add_layers(all_layers(self.space, self.own_exits, self.out_indices), self._make_layer)
        self._budgets: BudgetTable | None = None
        self.trained_routes: frozenset[int] | None = None
        self.own_tunings = _check_own_tunings(self.space, own_tunings)
        self._plans = [self.plan_of(route) for route in self.space]
        self.set_route(len(self.anchors) - 1)
        frozen_anchors = _check_anchor_indices(frozen_anchors, len(self.anchors))
        self._freeze(range(len(self.anchors)) if self.exact else frozen_anchors)
        self.tunings = self._make_tunings(check_int('adapter_rank', adapter_rank, 1))
        compile_parts(self, compile_blocks)

    @property
    def route(self) -> Route:
        """The route that ``forward`` runs."""
        return self._route

    @property
    def plan(self) -> Plan:
        """Steps of the route that ``forward`` runs."""
        return self._plan

    @property
    def trainable_routes(self) -> list[Route]:
        """Routes that have something to train: all but those of finished anchors."""
        return [route for route in self.space if not self.exact or route.kind != 'anchor']

    def tuning_of(self, route: Route) -> str:
        if not self.exact or route.kind == 'anchor':
            return ''
        return route.name if route.name in self.own_tunings else SHARED

    def stand_ins(self, run: Run) -> nn.ModuleDict | None:
        return self.tunings[run.tuning].stand_ins[str(run.anchor)] if run.tuning else None

    def layer(self, layer: Layer) -> StitchingLayer:
        return self.tunings[layer.tuning].layer(layer) if layer.tuning else super().layer(layer)

    def init_weights(self) -> None:
        """Load what the ``init_cfg`` of anchors and backbone name. Tunings then start from the anchors."""
        super().init_weights()
        for tuning in self.tunings.values():
            tuning.restart(self.anchors)

    def copy_layers(self) -> None:
        """Let stitching layers of single routes start from those that the other routes share."""
        for tuning in self.tunings.values():
            tuning.restart_layers(super().layer)

    def restart_tuning(self, name: str) -> None:
        """Let one tuning start from the anchors, and from the stitching layers that routes share."""
        self.tunings[name].restart(self.anchors)
        self.tunings[name].restart_layers(super().layer)

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

    def _make_layer(self, in_dim: int, out_dim: int) -> StitchingLayer:
        return StitchingLayer(in_dim, out_dim, self.lora_rank)

    def _make_tunings(self, rank: int) -> nn.ModuleDict:
        """One for each route with its own, and one for all others.

        That one has every block that a route with a switch may run, so that it is the same whichever have their own.
        """
        plans = list(self._plans)
        if self.exact:
            plans += [self._make_plan(route, SHARED) for route in self.space if route.kind != 'anchor']
        runs = [step for plan in plans for step in plan if isinstance(step, Run) and step.tuning]
        blocks: dict[str, set[tuple[int, int]]] = {}
        for run in runs:
            blocks.setdefault(run.tuning, set()).update((run.anchor, index) for index in range(run.start, run.stop))
        layers: dict[str, dict[Layer, StitchingLayer]] = {name: {} for name in blocks}
        for key in {key for plan in self._plans for key in used_layers(plan) if key.tuning}:
            layers[key.tuning][key] = self._make_layer(*self._widths(key))
        return nn.ModuleDict(
            {name: Tuning(self.anchors, blocks[name], self.exact, rank, layers[name]) for name in blocks}
        )


def find_backbone(model: nn.Module, kind: type[Backbone] = StitchedViT) -> Backbone:
    """The one backbone of a kind inside a model, however wrapped; see ``locate_backbone``."""
    return locate_backbone(model, kind)[1]


def locate_backbone(model: nn.Module, kind: type[Backbone] = StitchedViT) -> tuple[str, Backbone]:
    """Where in a model its one backbone of a kind is: the prefix of its parameters' names, and the backbone.

    Raises:
        ValueError: none, or more than one.
    """
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, kind)]
    if len(found) != 1:
        raise UserError(f'{type(model).__name__} holds {len(found)} {kind.__name__} backbones, expected exactly one')
    ((name, backbone),) = found
    return f'{name}.' if name else '', backbone


def _check_exact(exact: str | None, exits: str, own_tunings: Sequence) -> str | None:
    if exact is None:
        if own_tunings:
            raise UserError(f"own_tunings={list(own_tunings)} need exact='adapters' or 'copies': else routes share all")
        return None
    if exits != 'own':
        raise UserError(
            f"exact={exact!r} needs exits='own' and PerExit heads: a head that all routes share is no anchor's own"
        )
    return check_word('exact', exact, WAYS)


def _check_own_tunings(space: StitchSpace, own_tunings: Sequence[int | str]) -> tuple[str, ...]:
    """Names of routes.

    Raises:
        UserError: an unknown route; an anchor.
    """
    routes = [space.find(route) for route in check_list('own_tunings', own_tunings, "['s[0:3]-l[6:24]']")]
    for route in routes:
        if route.kind == 'anchor':
            raise UserError(f'{route} cannot have a tuning: an anchor stays as it is; name routes with a switch')
    return tuple(route.name for route in routes)


def _check_anchor_indices(indices: Sequence[int], count: int) -> tuple[int, ...]:
    listed = check_list('frozen_anchors', indices, '[0]')
    return tuple(check_int('an index in frozen_anchors', index, 0, count - 1) for index in listed)
