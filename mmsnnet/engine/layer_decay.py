"""Learning rates that fall towards the input, by every anchor's own depth (layer-wise decay, as in BEiT and ViTDet)."""

from collections.abc import Sequence
from typing import NamedTuple

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.models import AnchorBackbone, locate_backbone
from mmsnnet.registry import OPTIM_WRAPPER_CONSTRUCTORS, register
from mmsnnet.stitching import Layer
from mmsnnet.stitching.plan import layer_places

_POSITIONS = ('pos_embed', 'cls_token', 'reg_token', 'rel_pos_h', 'rel_pos_w', 'relative_position_bias_table', 'freqs')


class Place(NamedTuple):
    """Where a parameter of the backbone stands: after how many of an anchor's blocks."""

    anchor: int
    layer: int


@register(OPTIM_WRAPPER_CONSTRUCTORS)
class LayerDecayOptimWrapperConstructor:
    """An optimizer wrapper whose learning rates fall by ``layer_decay_rate`` with every layer below the heads.

    The layers of an anchor of depth d are its embedding (0) and its blocks (1 .. d); layer n trains at
    ``rate ** (d + 1 - n)`` of the learning rate, whatever the other anchors' depth. A stitching layer counts as the
    block whose place its output takes: ``up[k]`` as layer ``b_k`` of the large anchor, ``down[k]`` as layer ``k`` of
    the small one. Neck and heads train at the full rate. Vectors (norms, biases, ...), tokens and positions do not
    decay.

    In a config: ``optim_wrapper=dict(constructor='mmsnnet.LayerDecayOptimWrapperConstructor', ...)``.

    Args:
        optim_wrapper_cfg: of an ``OptimWrapper`` with its ``optimizer``.
        paramwise_cfg: ``layer_decay_rate``: one rate, or one for each anchor; ``print_groups``: log every group.

    Raises:
        ValueError: a rate outside (0, 1], another number of rates than of anchors, or another key.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.paramwise_cfg = dict(paramwise_cfg or {})
        unknown = self.paramwise_cfg.keys() - {'layer_decay_rate', 'print_groups'}
        if unknown or 'layer_decay_rate' not in self.paramwise_cfg:
            raise UserError(
                f'paramwise_cfg of {type(self).__name__} needs layer_decay_rate and may have print_groups, got '
                f'{sorted(self.paramwise_cfg)}'
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """The wrapper for a model with one ``StitchedViT``, ``AnchorViT`` or ``RouteViT``.

        Raises:
            ValueError: a model with another backbone.
        """
        cfg = dict(self.optim_wrapper_cfg)
        optimizer = dict(cfg.pop('optimizer'))
        groups = parameter_groups(
            model.module if is_model_wrapper(model) else model,
            self.paramwise_cfg['layer_decay_rate'],
            lr=optimizer['lr'],
            weight_decay=optimizer.get('weight_decay', 0.0),
        )
        if self.paramwise_cfg.get('print_groups'):
            print_log(format_groups(groups), logger='current')
        cfg.setdefault('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.build({**cfg, 'optimizer': OPTIMIZERS.build({**optimizer, 'params': groups})})


def parameter_groups(
    model: nn.Module, layer_decay_rate: float | Sequence[float], lr: float, weight_decay: float
) -> list[dict]:
    """Parameters that train, in groups of one learning rate and weight decay each.

    Groups have ``name``, ``param_names``, ``params``, ``lr``, ``lr_scale`` and ``weight_decay``.
    """
    prefix, backbone = _locate(model)
    rates = _rates(layer_decay_rate, len(backbone.anchors))
    groups: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        own_name = name.removeprefix(prefix)
        if name.startswith(prefix) and (place := find_place(backbone, own_name)):
            where = f'anchors.{place.anchor} layer {place.layer}'
            lr_scale = rates[place.anchor] ** (backbone.anchors[place.anchor].depth + 1 - place.layer)
        else:
            where, lr_scale = 'heads', 1.0
        decays = parameter.ndim > 1 and own_name.rpartition('.')[2] not in _POSITIONS
        group = groups.setdefault(
            f'{where}, {"decay" if decays else "no decay"}',
            {
                'name': where,
                'param_names': [],
                'params': [],
                'lr_scale': lr_scale,
                'lr': lr * lr_scale,
                'weight_decay': weight_decay if decays else 0.0,
            },
        )
        group['param_names'].append(name)
        group['params'].append(parameter)
    return list(groups.values())


def find_place(backbone: AnchorBackbone, name: str) -> Place | None:
    """Where one of a backbone's parameters stands; None for what is no part of anchors and stitching layers.

    What a tuning has in place of a block or stitching layer stands where that one does.
    """
    part, *rest = name.split('.')
    if part == 'tunings':
        _, kind, *rest = rest
        if kind == 'stand_ins':
            return Place(int(rest[0]), int(rest[1]) + 1)
        part, *rest = rest[0].split('_')
    if part == 'anchors':
        anchor = int(rest[0])
        if rest[1] in ('norm', 'pool'):
            # They follow the blocks.
            return Place(anchor, backbone.anchors[anchor].depth)
        return Place(anchor, int(rest[2]) + 1 if rest[1] == 'blocks' else 0)
    if part in ('up', 'down', 'out'):
        pair, k = int(rest[0]), int(rest[1])
        small, large = layer_places(backbone.space, Layer(part, pair, k))[0]
        return Place(pair, small) if part == 'down' else Place(pair + 1, large)
    return None


def format_groups(groups: Sequence[dict]) -> str:
    """A table of parameter groups."""
    lines = ['parameter groups:', f'{"layer":<20} {"lr":>10} {"of lr":>9} {"decay":>7} {"tensors":>8} {"params M":>9}']
    for group in groups:
        count = sum(parameter.numel() for parameter in group['params'])
        lines.append(
            f'{group["name"]:<20} {group["lr"]:>10.3g} {group["lr_scale"]:>9.3g} {group["weight_decay"]:>7.3g} '
            f'{len(group["params"]):>8} {count / 1e6:>9.3f}'
        )
    return '\n'.join(lines)


def _locate(model: nn.Module) -> tuple[str, AnchorBackbone]:
    try:
        return locate_backbone(model, AnchorBackbone)
    except UserError as error:
        raise UserError(
            f'layer decay needs one StitchedViT, AnchorViT or RouteViT in {type(model).__name__}, whose backbone is a '
            f'{type(getattr(model, "backbone", model)).__name__}: take another optimizer constructor or backbone'
        ) from error


def _rates(layer_decay_rate: float | Sequence[float], num_anchors: int) -> list[float]:
    rates = [layer_decay_rate] * num_anchors if isinstance(layer_decay_rate, int | float) else list(layer_decay_rate)
    if len(rates) != num_anchors or not all(0 < rate <= 1 for rate in rates):
        raise UserError(
            f'layer_decay_rate must be one number over 0 and up to 1, or {num_anchors}, one for each anchor from small '
            f'to large; got {layer_decay_rate}'
        )
    return rates
