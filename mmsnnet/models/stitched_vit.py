"""``StitchedViT``: one backbone that holds every route between its anchors."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.models.backbone import PlainViTBackbone
from mmsnnet.models.compilation import compile_parts
from mmsnnet.models.stitching_layer import StitchingLayer
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_int, check_list
from mmsnnet.stitching import BudgetTable, Plan, Record, Route, all_layers, make_plan, route_of

Backbone = TypeVar('Backbone', bound=PlainViTBackbone)


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
        super().__init__(anchors, out_indices, two_way, with_cp, norm_eval, init_cfg)
        self._add_layers(all_layers(self.space), lambda *widths: StitchingLayer(*widths, lora_rank))
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

    def train(self, mode: bool = True) -> 'StitchedViT':
        super().train(mode)
        for index in self.frozen_anchors:
            self.anchors[index].eval()
        return self


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


def _check_anchor_indices(indices: Sequence[int], count: int) -> tuple[int, ...]:
    listed = check_list('frozen_anchors', indices, '[0]')
    return tuple(check_int('an index in frozen_anchors', index, 0, count - 1) for index in listed)
