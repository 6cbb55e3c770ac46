"""Checks that a model's heads serve the exits of its backbone."""

import re
from collections.abc import Mapping, Sequence

from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.models import PerExit, StitchedViT, find_backbone, find_mismatch, locate_backbone
from mmsnnet.models.weights import weights_in

PerExits = Mapping[str, PerExit]
# The average of equal weights is that weight, to the last bit.
EXACT_AVERAGES = (ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage)


def check_exits(model: nn.Module) -> None:
    """Refuse a model whose heads do not serve the exits of its backbone.

    Raises:
        ValueError: naming the head, and what its config should say.
    """
    backbone = find_backbone(model)
    per_exit = {name: module for name, module in model.named_modules() if isinstance(module, PerExit)}
    if not backbone.own_exits:
        for name in per_exit:
            raise UserError(
                f"{name} is a PerExit, but exits are shared: set exits='own' in the backbone, or take one {name}"
            )
        return
    readers = _readers(model)
    _check_all_per_exit(readers, per_exit, len(backbone.anchors))
    _check_exact(per_exit, backbone)
    _check_widths({name: per_exit[name] for name in readers}, backbone)
    if backbone.exact:
        _check_nothing_else_trains(model, per_exit)


def check_finished(model: nn.Module, given: Mapping[str, Tensor] | None = None) -> None:
    """Refuse to train beside anchors, or heads of theirs, that nothing loads.

    Args:
        given: the weights that a checkpoint of the model brings, by name; their shapes are enough.

    Raises:
        ValueError: naming the anchor or the head.
    """
    prefix, backbone = locate_backbone(model)
    if not backbone.exact:
        return
    # Where the model as a whole is loaded, MMEngine does not ask its parts to load anything.
    is_whole = _is_pretrained(model)
    given = {**(_pretrained_weights(model) if is_whole else {}), **(given or {})}
    per_exit = {name: module for name, module in model.named_modules() if isinstance(module, PerExit)}
    for name, part in {prefix.removesuffix('.'): backbone, **per_exit}.items():
        if _is_pretrained(part):
            raise UserError(
                f"{name} is exact: an init_cfg of type 'Pretrained' would not bring what its routes with a switch have "
                'learnt; set load_from=PATH instead'
            )
        for index, weights in enumerate(part.weight_sources):
            anchor = f'{name}.anchors.{index}'.removeprefix('.')
            example = 'backbone.anchors.0.' if part is backbone else f'{name}.'
            problem = _not_given(part.anchors[index], anchor, given)
            if problem and (is_whole or not weights):
                raise UserError(
                    f'{anchor} stays as it is (exact={backbone.exact!r}), but nothing loads its weights ({problem}): '
                    "give it init_cfg=dict(type='Pretrained', checkpoint=PATH, prefix=PREFIX), with the PREFIX of its "
                    f'keys, such as {example!r}, or set load_from'
                )
        problem = is_whole and _not_given(part, name, given)
        if problem:
            raise UserError(
                f"model.init_cfg of type 'Pretrained' does not bring all of {name} ({problem}): use load_from, or "
                'tools/stitch.py --add for a route with weights of its own'
            )


def _pretrained_weights(model: nn.Module) -> dict[str, Tensor]:
    """What the ``init_cfg`` of a model as a whole loads.

    Raises:
        ValueError: it has been trained, and MMEngine would not say which of its routes.
    """
    checkpoint = model.init_cfg['checkpoint']
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    space = find_backbone(model).space
    if any(space.find(name).kind != 'anchor' for name in content.get('trained_routes') or ()):
        raise UserError(
            f"{checkpoint} has trained routes: an init_cfg of type 'Pretrained' would let their stitching layers start "
            'anew; set load_from to it instead'
        )
    return weights_in(content)


def _not_given(module: nn.Module, name: str, given: Mapping[str, Tensor]) -> str | None:
    """Which weights of a part of this name are not given, or have another shape; None if all are there."""
    wanted = {f'{name}.{key}'.removeprefix('.'): value for key, value in module.state_dict().items()}
    return find_mismatch(wanted, {key: given[key] for key in wanted.keys() & given.keys()})


def _is_pretrained(module: nn.Module) -> bool:
    """Whether a module loads its weights from a checkpoint, by MMEngine's ``init_cfg``."""
    init_cfg = getattr(module, 'init_cfg', None)
    return isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained'


def check_averaging(runner: Runner) -> None:
    """Refuse averages of weights by which finished anchors would change.

    Raises:
        ValueError: naming the kind of average.
    """
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model')]
    for average in averages if find_backbone(runner.model).exact else ():
        if type(average) not in EXACT_AVERAGES:
            raise UserError(
                f'{type(average).__name__} averages finished anchors too, and may change them by rounding: use one of '
                f"MMEngine's as EMAHook's ema_type, which do not: {', '.join(kind.__name__ for kind in EXACT_AVERAGES)}"
            )


def check_synced_norms(model: nn.Module) -> None:
    """Refuse norms that ranks compute together in heads of exits, where each rank trains a route of its own.

    Raises:
        ValueError: naming the neck or head.
    """
    for name, module in model.named_modules():
        if isinstance(module, PerExit) and any(isinstance(part, nn.SyncBatchNorm) for part in module.modules()):
            raise UserError(
                f'{name} has SyncBN, for which all ranks wait for each other, but with per_rank_routes=True they run '
                "different heads: set norm_cfg=dict(type='BN') in its heads, or leave per_rank_routes out"
            )


def wanted_channels(reader: nn.Module, levels: Sequence[int]) -> int | list[int] | None:
    """What ``in_channels`` of a neck or head must be for levels of so many channels; None if they are that.

    Heads say with ``in_index`` which levels they read, and may concatenate them.

    Raises:
        ValueError: a level that does not exist.
    """
    if not hasattr(reader, 'in_channels'):
        return None
    given, index = _listed(reader.in_channels), getattr(reader, 'in_index', None)
    read = list(levels) if index is None else [_level(reader, levels, level) for level in _listed(index)]
    if getattr(reader, 'input_transform', None) == 'resize_concat':
        # Such a head is given a list, and keeps its sum.
        return None if given == [sum(read)] else read
    # Some read only one level of those that they get, or give one number for all.
    if given == read or (len(given) != len(read) and set(given) <= set(read)):
        return None
    return read[0] if len(set(read)) == 1 else read


def _level(reader: nn.Module, levels: Sequence[int], index: int) -> int:
    if not -len(levels) <= index < len(levels):
        raise UserError(
            f'{type(reader).__name__} has in_index {index}, but {len(levels)} levels leave the backbone: add blocks to '
            'out_indices, or set another in_index'
        )
    return levels[index]


def _listed(value: int | Sequence[int]) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]


def check_widths(model: nn.Module) -> None:
    """Refuse a neck or head, of a model whose exits are shared, that does not fit the backbone's width.

    Raises:
        ValueError: with both numbers.
    """
    backbone, modules = find_backbone(model), dict(model.named_modules())
    levels = backbone.level_channels(len(backbone.anchors) - 1)
    for name in () if backbone.own_exits else _readers(model):
        wanted = wanted_channels(modules[name], levels)
        if wanted is not None:
            raise UserError(
                f'{name} has in_channels={modules[name].in_channels}, but every route has levels of the widest anchor, '
                f'{_described(levels)} channels: set in_channels to {wanted}'
            )


def check_class_tokens(model: nn.Module) -> None:
    """Refuse MMSegmentation's ``DPTHead``, which reads a class token beside each map, without any.

    It compares the length of a level with 2, which a map of two images has, too.

    Raises:
        ValueError: saying what to set.
    """
    if find_backbone(model).output_cls_token:
        return
    for name, module in model.named_modules():
        # Ours, which has the setting readout, checks levels itself.
        if hasattr(module, 'reassemble_blocks') and not hasattr(module, 'readout'):
            raise UserError(
                f'{name} is a {type(module).__name__}, which reads the class token beside each map, but the backbone '
                'gives maps alone: set output_cls_token=True in the backbone'
            )


def _described(levels: Sequence[int]) -> str:
    return str(levels[0] if len(set(levels)) == 1 else list(levels))


def _readers(model: nn.Module) -> list[str]:
    """The parts of a model that read the backbone's maps: its neck, or else its heads."""
    names = [name for name, _ in model.named_modules() if re.fullmatch(r'neck|head|[^.]+_head(\.\d+)?', name)]
    # A list of heads is none itself.
    return ['neck'] if 'neck' in names else [name for name in names if f'{name}.0' not in names]


def _check_all_per_exit(readers: Sequence[str], per_exit: PerExits, num_anchors: int) -> None:
    for name in readers:
        if name not in per_exit:
            raise UserError(
                f"the backbone has exits='own', but there is one {name} for all: make it a PerExit with one of its "
                f'kind for each of the {num_anchors} anchors'
            )


def _check_exact(per_exit: PerExits, backbone: StitchedViT) -> None:
    for name, head in per_exit.items():
        if head.exact != bool(backbone.exact):
            raise UserError(
                f'the backbone has exact={backbone.exact!r}, but {name} has exact={head.exact}: anchors and heads '
                f'are finished together; set exact={bool(backbone.exact)} in {name}'
            )


def _check_nothing_else_trains(model: nn.Module, per_exit: PerExits) -> None:
    """Check that anchors share no weights with routes that train, beside neck and heads of each exit."""
    prefix, _ = locate_backbone(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith((prefix, *(f'{part}.' for part in per_exit))):
            raise UserError(
                f'anchors are finished models (exact), but {name} serves all routes and trains, which would change '
                f"what anchors give: make '{name.partition('.')[0]}' a PerExit, too"
            )


def _check_widths(readers: PerExits, backbone: StitchedViT) -> None:
    """Check that there is a head for each exit, and that it reads maps of the width that leave there."""
    for exit_ in sorted({backbone.plan_of(route)[-1].exit for route in backbone.space}):
        levels = backbone.level_channels(exit_.anchor)
        for name, head in readers.items():
            if len(head.anchors) != len(backbone.anchors):
                raise UserError(
                    f'{name} has {len(head.anchors)} heads, but the backbone has {len(backbone.anchors)} anchors: give '
                    'a head for each'
                )
            try:
                own = head.head(exit_)
            except UserError as error:
                raise UserError(f'{name}: {error}') from error
            wanted = wanted_channels(own, levels)
            if wanted is not None:
                raise UserError(
                    f'the head of {name} for anchor {exit_.anchor} has in_channels={own.in_channels}, but what leaves '
                    f'there has {_described(levels)} channels: set in_channels to {wanted}'
                )
