"""What backbones over anchors share: anchors, a stitch space, and running the plan of a route."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsnnet.errors import UserError
from mmsnnet.models.anchors import Grid, check_compatible, create_anchor
from mmsnnet.models.exits import ExitMaps
from mmsnnet.models.pooling import OUT_TYPES
from mmsnnet.models.weights import PRETRAINED_ARGS, init_anchor
from mmsnnet.settings import check_int, check_list, check_word
from mmsnnet.stitching import Exit, Layer, Plan, Route, Run, StitchSpace, Switch, make_plan
from mmsnnet.stitching.plan import layer_places, tapped_block


class State(NamedTuple):
    """How far a pass has come: tokens (B, N, C), the grid (h, w) of patches, and the output levels that have left.

    Tokens of windowed anchors and Swins are maps (B, h, w, C), in later stages of a Swin smaller than the grid. A level
    is one tensor; where the class token leaves beside the map, two that follow each other.
    """

    tokens: Tensor
    grid: Grid
    levels: tuple[Tensor | None, ...]


class AnchorBackbone(BaseModule):
    """A backbone over anchors: creates, loads and freezes them, and runs the plan of one route.

    Stitching layers, where there are any, lie in ``up``, ``down`` and ``out`` by pair of anchors and boundary.

    Attributes:
        space: the routes between the anchors; of a single anchor, the one route.
        out_indices: blocks of the largest anchor after which an output level leaves, none negative.
        out_type: what leaves: feature maps, or a vector for classifiers.
        output_cls_token: whether each level is a map and the class token beside it.
        route: the one that ``forward`` runs.
        plan: the steps of ``route``.
        frozen_anchors: indices of anchors that do not train and stay in evaluation mode.
        own_exits: whether levels leave at the width of a route's last anchor, not of the largest one.
        timm_args: arguments of ``create_anchor`` for each anchor.
    """

    route: Route
    plan: Plan

    def __init__(
        self,
        anchors: Sequence[dict],
        out_indices: Sequence[int],
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
        super().__init__(init_cfg)
        for anchor in anchors:
            if not isinstance(anchor, Mapping) or 'model' not in anchor:
                raise UserError(f"an anchor must be a dict with the name of a timm model as 'model', got {anchor!r}")
        self.norm_eval = norm_eval
        self.frozen_anchors: tuple[int, ...] = ()
        self.own_exits = check_word('exits', exits, ('shared', 'own')) == 'own'
        self._init_cfgs = [anchor.get('init_cfg') for anchor in anchors]
        self.timm_args = [{key: value for key, value in anchor.items() if key != 'init_cfg'} for anchor in anchors]
        self.final_norm = final_norm
        self.out_type = check_word('out_type', out_type, OUT_TYPES)
        if output_cls_token and out_type != 'featmap':
            raise UserError(f'output_cls_token is for feature maps: leave it out, or out_type={out_type!r}')
        self.output_cls_token = output_cls_token
        shared = {
            'with_cp': with_cp,
            'final_norm': final_norm,
            'out_type': out_type,
            'output_cls_token': output_cls_token,
        }
        self._anchor_args = [{**shared, **timm_args} for timm_args in self.timm_args]
        self.anchors = nn.ModuleList(create_anchor(**arguments) for arguments in self._anchor_args)
        check_compatible(list(self.anchors))
        self.space = StitchSpace([anchor.stages for anchor in self.anchors], two_way=two_way, window=window)
        self.out_indices = _check_out_indices(out_indices, self.anchors[-1].depth)
        if out_type != 'featmap' and self.out_indices != (self.anchors[-1].depth - 1,):
            raise UserError(
                f'out_type={out_type!r} gives a vector after the last block: leave out out_indices={out_indices}'
            )
        pairs = range(len(anchors) - 1)
        self.up = nn.ModuleList(nn.ModuleDict() for _ in pairs)
        self.down = nn.ModuleList(nn.ModuleDict() for _ in pairs)
        self.out = nn.ModuleList(nn.ModuleDict() for _ in pairs)

    @property
    def out_channels(self) -> int:
        """Channels of the last output level of the route that is set. Levels of plain ViTs have all as many."""
        return self.level_channels(self.exit.anchor)[-1]

    def level_channels(self, anchor: int) -> tuple[int, ...]:
        """Channels of each output level of routes that leave through an anchor."""
        return tuple(self.anchors[anchor].out_channels(blocks) for blocks in self.blocks_before_levels(anchor))

    @property
    def no_levels(self) -> tuple[None, ...]:
        """The levels of a pass that none has left."""
        return (None,) * (len(self.out_indices) * self.tensors_per_level)

    @property
    def tensors_per_level(self) -> int:
        """2 where the class token leaves beside the map, else 1."""
        return 1 + self.output_cls_token

    def blank_levels(self, image_size: tuple[int, int]) -> tuple[Tensor, ...]:
        """Tensors of output levels, all zeros, for one image of a size (height, width), of the route that is set."""
        anchor, shapes = self.anchors[self.exit.anchor], []
        for blocks in self.blocks_before_levels(self.exit.anchor):
            strides = zip(image_size, anchor.stride_after(blocks), strict=True)
            grid = [-(-size // stride) for size, stride in strides] if self.out_type == 'featmap' else []
            shapes.append((1, anchor.out_channels(blocks), *grid))
            if self.output_cls_token:
                shapes.append((1, anchor.width_after(blocks)))
        return tuple(next(self.parameters()).new_zeros(shape) for shape in shapes)

    def blocks_before_levels(self, anchor: int) -> list[int]:
        """After how many blocks of an anchor each output level leaves."""
        return [tapped_block(self.space, anchor, out_index) + 1 for out_index in self.out_indices]

    def plan_of(self, route: Route) -> Plan:
        """The steps of a route."""
        return self._make_plan(route, self.tuning_of(route))

    def tuning_of(self, route: Route) -> str:
        """The name of the tuning that a route runs on; without any, the anchors' own weights."""
        return ''

    @property
    def weight_sources(self) -> list[object]:
        """For each anchor, what brings its weights: an ``init_cfg`` or an argument of timm's; None: it is random."""
        return [
            init_cfg or next((timm_args[key] for key in PRETRAINED_ARGS if timm_args.get(key)), None)
            for init_cfg, timm_args in zip(self._init_cfgs, self.timm_args, strict=True)
        ]

    def init_weights(self) -> None:
        """Load what the ``init_cfg`` of anchors and backbone name. timm's own initialisation is left as it is."""
        for anchor, arguments, init_cfg in zip(self.anchors, self._anchor_args, self._init_cfgs, strict=True):
            if init_cfg:
                init_anchor(anchor, arguments, init_cfg)
        super().init_weights()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) -> one map (B, C, H / stride, W / stride) per out index, rounded up.

        Of plain ViTs, the stride is the patch and C is ``out_channels``. Where exits are the routes' own, the maps are
        ``ExitMaps``. With ``output_cls_token``, each level is a list of map and class token (B, C). By an ``out_type``
        for classifiers, one vector (B, C) leaves instead.

        Raises:
            ValueError: an image smaller than a patch.
        """
        return self.leave(self.advance(self.start(images, self.route.spans[0].anchor), self.plan).levels)

    def leave(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...] | tuple[list[Tensor], ...]:
        """The tensors of all levels of the route that is set, as they leave the backbone."""
        levels = self.pair_up(levels)
        return ExitMaps(levels, self.exit) if self.own_exits else levels

    def pair_up(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...] | tuple[list[Tensor], ...]:
        """Maps and class tokens in turn -> a list of both for each level, as MMSegmentation's ViT gives them."""
        if not self.output_cls_token:
            return levels
        return tuple(map(list, zip(levels[::2], levels[1::2], strict=True)))

    @property
    def exit(self) -> Exit:
        """Where the route that is set leaves."""
        return self.plan[-1].exit

    def start(self, images: Tensor, anchor: int) -> State:
        """Embed images (B, 3, H, W) by an anchor."""
        return State(*self.anchors[anchor].embed(images), self.no_levels)

    def advance(self, state: State, steps: Plan) -> State:
        """Where some steps of a plan lead; the state given stays as it is."""
        tokens, grid, levels = state.tokens, state.grid, list(state.levels)
        for step in steps:
            if isinstance(step, Run):
                tokens = self.anchors[step.anchor].run(tokens, step.start, step.stop, grid, self.stand_ins(step))
            elif isinstance(step, Switch):
                tokens = self.layer(step.layer)(tokens)
            else:
                tapped = tokens
                for layer in step.layers:
                    tapped = self.layer(layer)(tapped)
                left = self.anchors[step.exit.anchor].leave(tapped, grid, step.stage)
                for level in step.levels:
                    first = level * self.tensors_per_level
                    levels[first : first + self.tensors_per_level] = left
        return State(tokens, grid, tuple(levels))

    def layer(self, layer: Layer) -> nn.Module:
        """The stitching layer of a plan's step."""
        return getattr(self, layer.direction)[layer.pair][str(layer.k)]

    def stand_ins(self, run: Run) -> nn.ModuleDict | None:
        """What a step of a plan runs in place of its anchor's blocks, by index; None for the blocks themselves."""
        return None

    def train(self, mode: bool = True) -> 'AnchorBackbone':
        super().train(mode)
        for index in self.frozen_anchors:
            self.anchors[index].eval()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _make_plan(self, route: Route, tuning: str) -> Plan:
        return make_plan(self.space, route, self.out_indices, self.own_exits, tuning)

    def _freeze(self, anchors: Iterable[int]) -> None:
        """Keep some anchors as they are."""
        self.frozen_anchors = tuple(anchors)
        for index in self.frozen_anchors:
            self.anchors[index].requires_grad_(False)

    def _add_layers(self, layers: Iterable[Layer], make: Callable[[int, int], nn.Module]) -> None:
        """Add stitching layers, each made from its input and output width."""
        for layer in layers:
            getattr(self, layer.direction)[layer.pair][str(layer.k)] = make(*self._widths(layer))

    def _widths(self, layer: Layer) -> tuple[int, int]:
        """Channels that enter and leave a stitching layer."""
        blocks, *_ = layer_places(self.space, layer)
        pair = self.anchors[layer.pair : layer.pair + 2]
        small, large = (anchor.width_after(count) for anchor, count in zip(pair, blocks, strict=True))
        return (large, small) if layer.direction == 'down' else (small, large)


@contextmanager
def giving(backbone: AnchorBackbone, levels: tuple[Tensor, ...]) -> Iterator[None]:
    """Let a backbone give these levels at once, as those of the route that is set: only what follows it runs."""
    backbone.forward = lambda images: backbone.leave(levels)
    try:
        yield
    finally:
        del backbone.forward


def _check_out_indices(out_indices: Sequence[int], depth: int) -> tuple[int, ...]:
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
