"""Growing a stitched model of finished anchors by one route, which changes nothing else of it."""

import copy
from collections.abc import Sequence

import torch
from mmengine.config import Config
from torch import nn

from mmsnnet.building import build_model
from mmsnnet.engine import configured_input_shape
from mmsnnet.errors import UserError
from mmsnnet.export import PER_EXIT, STITCHING_HOOK
from mmsnnet.models import PerExit, StitchedViT, find_backbone, find_mismatch, route_costs
from mmsnnet.settings import check_number, is_named
from mmsnnet.stitching import Route


def find_new_route(model: nn.Module, cfg: Config, selection: str, trained: Sequence[str] = ()) -> Route:
    """The route to add: of a name or id, or ``'budget:120'`` for the most expensive of at most 120 GFLOPs.

    Args:
        trained: names of the routes that are trained, which are not added again.

    Raises:
        ValueError: anchors that are no finished models; an anchor; a route that is trained, or has weights of its own,
            already; none within the budget.
    """
    backbone = find_backbone(model)
    if not backbone.exact:
        raise UserError(
            'a route can only be added beside finished anchors, but all routes of this model share their weights: it '
            "needs exact='adapters' or 'copies' in the backbone, as tools/stitch.py writes it"
        )
    names = {*trained, *backbone.own_tunings}
    taken = {route.id for route in backbone.space if route.kind == 'anchor' or route.name in names}
    if not selection.startswith('budget:'):
        route = backbone.space.find(selection.removeprefix('id:'))
        if route.id in taken:
            raise UserError(f'{route} is in the model already, trained or with weights of its own: add another route')
        return route
    costs = route_costs(model, configured_input_shape(model, cfg))
    budget = check_number('a budget in GFLOPs', _number(selection.removeprefix('budget:')), above=0)
    within = [route for route in backbone.space if route.id not in taken and costs[route.id].gflops <= budget]
    if len(taken) == len(backbone.space):
        raise UserError('no route is left to add: all are trained, or have weights of their own')
    if not within:
        cheapest = min(costs[route.id].gflops for route in backbone.space if route.id not in taken)
        raise UserError(f'no route to add costs at most {budget:g} GFLOPs, the cheapest costs {cheapest:.4g}')
    return max(within, key=lambda route: costs[route.id].gflops)


def add_to_config(cfg: Config, route: Route, checkpoint: str) -> Config:
    """The config that trains one more route, with weights of its own, and only these.

    Args:
        checkpoint: where the weights of the grown model will be.

    Raises:
        ValueError: no hook would train it.
    """
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    per_exit = per_exit_configs(cfg.model)
    for part in [backbone, *per_exit]:
        part.own_tunings = [*part.get('own_tunings', []), route.name]
    # The checkpoint brings all weights: the two models' own are needed no more.
    heads = [head for part in per_exit for head in part.heads]
    for loaded in [cfg.model, *backbone.anchors, *heads]:
        loaded.pop('init_cfg', None)
    hooks = [hook for hook in cfg.get('custom_hooks', []) if is_named(hook, STITCHING_HOOK)]
    if not hooks:
        raise UserError(f'the config has no {STITCHING_HOOK} in custom_hooks, which would train the route: add it')
    for hook in hooks:
        hook.focus = [route.name]
    cfg.load_from, cfg.resume = checkpoint, False
    return cfg


def grown_model(cfg: Config, weights: dict[str, torch.Tensor], route: Route) -> nn.Module:
    """The model of a grown config, with the weights of the one before. The new route starts as an anchor's copy.

    Raises:
        ValueError: weights of another model.
    """
    model = build_model(copy.deepcopy(cfg))
    own = {name: value for name, value in model.state_dict().items() if f'.{route.name}.' in name}
    problem = find_mismatch(model.state_dict(), weights | own)
    if problem:
        raise UserError(f'the checkpoint is of another architecture than the config: {problem}')
    model.load_state_dict(weights | own)
    backbone: StitchedViT = find_backbone(model)
    backbone.restart_tuning(route.name)
    for part in model.modules():
        if isinstance(part, PerExit):
            part.restart_copies([route.name])
    return model


def per_exit_configs(model: dict) -> list[dict]:
    """Configs of all ``PerExit`` of a model."""
    parts = [part for value in model.values() for part in (value if isinstance(value, list) else [value])]
    return [part for part in parts if isinstance(part, dict) and is_named(part, PER_EXIT)]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
