"""Measure with fvcore what each part of a model costs."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_handles import get_shape
from torch import Tensor, nn

from mmsnnet.models.anchor_vit import AnchorViT
from mmsnnet.models.anchors import Anchor, Grid
from mmsnnet.models.backbone import AnchorBackbone, giving
from mmsnnet.models.compilation import uncompiled
from mmsnnet.models.exits import PerExit
from mmsnnet.models.stitched_vit import find_backbone
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import Cost, CostTable, Exit, Route, all_layers
from mmsnnet.stitching.cost import Part
from mmsnnet.stitching.plan import layer_places


def route_costs(model: nn.Module, input_shape: tuple[int, int]) -> CostTable:
    """Cost of every route of the ``StitchedViT`` in ``model``, for one image of ``input_shape`` (height, width).

    Runs embeddings, stitching layers, neck and heads on the model's device. Blocks, which cost most, are counted from
    their shapes, so that a table of 134 routes costs far less than one pass of the largest.

    Args:
        model: a ``StitchedViT``, or a model that holds one and, like MMEngine's, takes ``mode='tensor'``. Auxiliary
            heads, which only train, are not counted; of two-stage detectors see ``TwoStageDetection``.
    """
    backbone = find_backbone(model)
    route = backbone.route
    try:
        # The anchors' own routes come first: one for each exit that there may be.
        return _cost_table(model, backbone, input_shape, map(backbone.set_route, range(len(backbone.anchors))))
    finally:
        backbone.set_route(route)


def _cost_table(
    model: nn.Module, backbone: AnchorBackbone, input_shape: tuple[int, int], exits: Iterable[Route]
) -> CostTable:
    """Cost of every route of a backbone in a model.

    Args:
        exits: routes to each exit, which are set while they are iterated over.
    """
    images = torch.zeros(1, 3, *input_shape, device=next(backbone.parameters()).device)
    was_training = model.training
    model.eval()
    try:
        parts = _measure_parts(backbone, images)
        used_levels: dict[int, tuple[int, ...]] = {}
        for _ in exits:
            anchor = backbone.exit.anchor
            if model is backbone:
                used_levels[anchor], parts['rest', anchor] = tuple(range(len(backbone.out_indices))), Cost()
            elif anchor not in used_levels:
                used_levels[anchor], parts['rest', anchor] = _measure_rest(model, backbone, images)
    finally:
        model.train(was_training)
    return CostTable([backbone.plan_of(route) for route in backbone.space], parts, used_levels)


def _measure_rest(model: nn.Module, backbone: AnchorBackbone, images: Tensor) -> tuple[tuple[int, ...], Cost]:
    """The output levels that neck and heads read at the exit of the route that is set, and the cost of neck and heads.

    The backbone does not run: neck and heads get blank levels.
    """
    tensors = backbone.blank_levels(images.shape[-2:])

    def results(*given: Tensor) -> Any:
        with giving(backbone, given):
            return task_of(model).countable_outputs(images)

    params = _num_params(model) - _num_params(getattr(model, 'auxiliary_head', None)) - _num_params(backbone)
    rest = Cost(count_flops(results, model, *tensors), params - _params_of_other_exits(model, backbone.exit))
    used_levels = {index // backbone.tensors_per_level for index in _used_tensors(results, tensors)}
    return tuple(sorted(used_levels)), rest


def _params_of_other_exits(model: nn.Module, exit_: Exit) -> int:
    """Parameters of heads that do not serve an exit. Auxiliary heads, which only train, do not count."""
    return sum(
        _num_params(module) - _num_params(module.head(exit_))
        for name, module in model.named_modules()
        if isinstance(module, PerExit) and not name.startswith('auxiliary_head')
    )


def model_cost(model: nn.Module, input_shape: tuple[int, int]) -> Cost:
    """Cost of any MMEngine model that takes ``mode='tensor'``, for one image, without its auxiliary heads.

    Blocks of an ``AnchorViT`` are counted as those of routes are.
    """
    if any(isinstance(module, AnchorViT) for module in model.modules()):
        anchor = find_backbone(model, AnchorViT)
        return _cost_table(model, anchor, input_shape, anchor.space)[0]
    images = torch.zeros(1, 3, *input_shape, device=next(model.parameters()).device)
    was_training = model.training
    model.eval()
    flops = count_flops(lambda x: task_of(model).countable_outputs(x), model, images)
    model.train(was_training)
    return Cost(flops, _num_params(model) - _num_params(getattr(model, 'auxiliary_head', None)))


def count_flops(function: Callable[..., Any], owner: nn.Module, *inputs: Any) -> int:
    """FLOPs of one call by fvcore's convention: one multiply-add counts one. Fused attention is counted too.

    Args:
        function: what to count.
        owner: the module whose parameters it uses.
        inputs: its arguments.
    """
    analysis = FlopCountAnalysis(_Call(function, owner), inputs)
    analysis.set_op_handle('aten::scaled_dot_product_attention', _count_attention)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    with torch.no_grad(), uncompiled(owner):
        return int(analysis.total())


def _without_memory(module: nn.Module) -> nn.Module:
    """A copy of a module on ``meta``, which computes shapes alone, in no time."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): nn.Parameter(tensor.to('meta'), False) for tensor in tensors})


def _measure_parts(backbone: AnchorBackbone, images: Tensor) -> dict[Part, Cost]:
    parts: dict[Part, Cost] = {}
    tokens_after = []
    for index, anchor in enumerate(backbone.anchors):
        embed_flops = count_flops(lambda x, a=anchor: a.embed(x)[0], anchor, images)
        with torch.no_grad():
            tokens, grid = anchor.embed(images)
        costs, after = _measure_blocks(anchor, tokens, grid)
        tokens_after.append(after)
        parts |= {(index, block): cost for block, cost in enumerate(costs)}
        for blocks in backbone.blocks_before_levels(index):
            stage = backbone.space.stage_of(index, blocks - 1)
            parts['exit', index, stage] = _measure_exit(anchor, after[blocks], grid, stage)
        parts['position', index] = Cost(0, _num_params(anchor.position_module))
        others = (anchor.blocks, anchor.position_module, anchor.norm, anchor.pool)
        parts['embed', index] = Cost(embed_flops, _num_params(anchor) - sum(map(_num_params, others)))
    return parts | _measure_layers(backbone, tokens_after)


def _measure_blocks(anchor: Anchor, tokens: Tensor, grid: Grid) -> tuple[list[Cost], list[Tensor]]:
    """The cost of each block, and the tokens after each number of blocks, without values."""
    twin = _without_memory(anchor)
    after = [tokens.to('meta')]
    costs: list[Cost] = []
    flops_of: dict[tuple, int] = {}
    for block, module in enumerate(anchor.blocks):
        shapes = (after[-1].shape, *shapes_of(module))
        run = lambda x, b=block: twin.run(x, b, b + 1, grid)  # noqa: E731
        if shapes not in flops_of:
            flops_of[shapes] = count_flops(run, twin, after[-1])
        costs.append(Cost(flops_of[shapes], _num_params(module)))
        with torch.no_grad(), uncompiled(twin):
            after.append(run(after[-1]))
    return costs, after


def _measure_exit(anchor: Anchor, tokens: Tensor, grid: Grid, stage: int) -> Cost:
    """The norm and pooling that tokens of a stage pass when they leave."""
    blank = torch.zeros(tokens.shape, device=next(anchor.parameters()).device)
    flops = count_flops(lambda x: anchor.leave(x, grid, stage), anchor, blank)
    return Cost(flops, _num_params(anchor.norm_after(stage)) + _num_params(anchor.pool))


def _measure_layers(backbone: AnchorBackbone, tokens_after: Sequence[Sequence[Tensor]]) -> dict[Part, Cost]:
    """The cost of each stitching layer, from the tokens of each anchor after each number of blocks."""
    parts: dict[Part, Cost] = {}
    flops_of: dict[tuple, int] = {}
    for key in all_layers(backbone.space, backbone.own_exits, backbone.out_indices):
        layer = backbone.layer(key)
        (small, large), *_ = layer_places(backbone.space, key)
        tokens = tokens_after[key.pair + 1][large] if key.direction == 'down' else tokens_after[key.pair][small]
        shapes = (tokens.shape, *shapes_of(layer))
        if shapes not in flops_of:
            flops_of[shapes] = count_flops(layer, layer, torch.zeros(tokens.shape, device=layer.weight.device))
        parts[key] = Cost(flops_of[shapes], _num_params(layer))
    return parts


def _used_tensors(results: Callable[..., Any], levels: Sequence[Tensor]) -> tuple[int, ...]:
    """Tensors of output levels that results depend on, by index.

    fvcore counts only what the result depends on: a tap that only an auxiliary head reads costs nothing.
    """
    if len(levels) == 1:
        return (0,)
    with torch.enable_grad():
        given = [tensor.detach().requires_grad_() for tensor in levels]
        # A head may return a map as it is, or change it in place, which a leaf does not allow.
        read = _leaves(_tensors(results(*(tensor.clone() for tensor in given))))
    return tuple(index for index, tensor in enumerate(given) if tensor in read)


def _leaves(results: list[Tensor]) -> set[Tensor]:
    """The tensors that require gradients and that the results depend on. No gradient is computed."""
    leaves = {result for result in results if result.is_leaf and result.requires_grad}
    nodes = [result.grad_fn for result in results if result.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if hasattr(node, 'variable'):
            leaves.add(node.variable)
        new = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= new
        nodes.extend(new)
    return leaves


def _tensors(value: Any) -> list[Tensor]:
    """All tensors of nested sequences and dicts."""
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in _tensors(item)]


class _Call(nn.Module):
    """A function as a module, which is what fvcore traces."""

    def __init__(self, function: Callable[..., Any], owner: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.owner = owner
        self.training = owner.training

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def _count_attention(inputs: list, outputs: list) -> int:
    """Multiply-adds of ``q k^T`` and of the weights times ``v``; q, k, v (..., N, C)."""
    *batch, queries, channels = get_shape(inputs[0])
    keys = get_shape(inputs[1])[-2]
    return 2 * math.prod(batch) * queries * keys * channels


def shapes_of(module: nn.Module) -> tuple:
    """What the cost of a module depends on: shapes of parameters, and whether attention has windows, shifted or not."""
    shapes = tuple((name, *parameter.shape) for name, parameter in module.named_parameters())
    return (getattr(module, 'window_size', None), getattr(module, 'shift_size', None), *shapes)


def _num_params(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
