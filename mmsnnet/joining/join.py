"""Joining finished models into a stitched one that holds them: its config and its weights."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmsnnet.building import build_model
from mmsnnet.errors import UserError
from mmsnnet.files import is_url
from mmsnnet.joining.finished import BEST, EARLY_STOPPING, FinishedModel, keeps_best, watches_metrics
from mmsnnet.models import AnchorViT, PerExit, find_backbone
from mmsnnet.settings import is_named

# Settings of a backbone that hold for a stitched one, too.
_KEPT = ('with_cp', 'norm_eval', 'compile_blocks')
# The second compares classes with heads by names that a PerExit does not have; StitchSamplingHook does so itself.
_HOOKS_LEFT_OUT = (EARLY_STOPPING, 'NumClassCheckHook')
# Layer-wise decay of OpenMMLab knows OpenMMLab's backbones only. What each calls the rate:
_LAYER_DECAY = {
    'LayerDecayOptimizerConstructor': 'layer_decay_rate',
    'LearningRateDecayOptimizerConstructor': 'decay_rate',
    'LayerDecayOptimWrapperConstructor': 'layer_decay_rate',
}


def join_configs(models: Sequence[FinishedModel], checkpoint: Path, exact: str, num_routes: int) -> Config:
    """The config of a stitched model; all that is not of the model itself is the largest one's.

    Args:
        models: from small to large.
        checkpoint: where the stitched model's weights will be.
        exact: as the backbone's.
        num_routes: how many routes with a switch train; 0 for all.
    """
    cfg = copy.deepcopy(models[-1].cfg)
    for key in ('work_dir', 'experiment_name', 'launcher'):
        cfg.pop(key, None)
    model = _model(models, checkpoint, exact)
    return Config({**cfg, **_training(models, num_routes), 'model': model, 'load_from': None, 'resume': False})


def join_models(cfg: Config, models: Sequence[FinishedModel]) -> nn.Module:
    """The stitched model of a config, with the weights of the finished ones; its stitching layers are random."""
    stitched = build_model(copy.deepcopy(cfg)).eval()
    backbone = find_backbone(stitched)
    for anchor, each in zip(backbone.anchors, models, strict=True):
        anchor.load_state_dict(each.vit.state_dict)
    for tuning in backbone.tunings.values():
        tuning.restart(backbone.anchors)
    for name, part in stitched.named_modules():
        if isinstance(part, PerExit):
            for head, each in zip(part.anchors, models, strict=True):
                head.load_state_dict(each.model.get_submodule(name).state_dict())
            part.restart_copies()
    return stitched


@torch.no_grad()
def largest_difference(stitched: nn.Module, model: FinishedModel, index: int) -> float:
    """How much features of an anchor's route differ from those of its finished model, of their largest value.

    At the size that the anchor was created for.
    """
    backbone = find_backbone(stitched)
    backbone.set_route(index)
    anchor = backbone.anchors[index]
    size = [count * side for count, side in zip(anchor.grid_size, anchor.patch_size, strict=True)]
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    pairs = zip(_tensors(backbone(images)), _tensors(model.model.backbone(images)), strict=True)
    return max(((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in pairs)


def _tensors(levels: Sequence[Tensor | Sequence[Tensor]]) -> list[Tensor]:
    """Maps, and class tokens where these leave beside them."""
    return [tensor for level in levels for tensor in ([level] if isinstance(level, Tensor) else level)]


def absolute(path: str) -> str:
    """A path that holds from any folder."""
    return path if is_url(path) else str(Path(path).resolve())


def _model(models: Sequence[FinishedModel], checkpoint: Path, exact: str) -> dict:
    """The settings of the stitched model."""
    largest = models[-1]
    model = {key: value for key, value in largest.cfg['model'].items() if key not in ('pretrained', 'init_cfg')}
    model['backbone'] = {
        'type': 'mmsnnet.StitchedViT',
        'anchors': [_anchor(each, index, checkpoint) for index, each in enumerate(models)],
        'out_indices': largest.vit.out_indices,
        'final_norm': largest.vit.final_norm,
        'out_type': largest.vit.out_type,
        'output_cls_token': largest.vit.output_cls_token,
        'exits': 'own',
        'exact': exact,
        **{key: model['backbone'][key] for key in _KEPT if key in model['backbone']},
    }
    for name in largest.parts:
        model[name] = _part(models, name, checkpoint)
        if isinstance(model[name], list):
            # MMSegmentation does not initialise lists of heads.
            model['init_cfg'] = {'type': 'Pretrained', 'checkpoint': absolute(str(checkpoint))}
    return model


def _training(models: Sequence[FinishedModel], num_routes: int) -> dict:
    """What training and evaluating routes takes beside the settings of the largest model's config."""
    cfg = models[-1].cfg
    focus = {'focus': {'routes': num_routes}} if num_routes else {}
    # Uniform over the routes, whatever they cost: it suits models of any size.
    hook = {'type': 'mmsnnet.StitchSamplingHook', 'sampler': {'type': 'UniformSampler'}, **focus}
    imports = [name for each in models for name in _listed((each.cfg.get('custom_imports') or {}).get('imports'))]
    hooks = [
        each for each in cfg.get('custom_hooks') or [] if not any(is_named(each, name) for name in _HOOKS_LEFT_OUT)
    ]
    settings = {
        # Ours first: it lets others import MMSegmentation where mmcv is not compiled.
        'custom_imports': {**(cfg.get('custom_imports') or {}), 'imports': list(dict.fromkeys(['mmsnnet', *imports]))},
        'custom_hooks': [*hooks, hook],
        # Anchors stay as they are, and so do their metrics.
        'val_cfg': _loop(cfg, 'val', 'mmsnnet.StitchValLoop', 'trained'),
        'test_cfg': _loop(cfg, 'test', 'mmsnnet.StitchTestLoop', 'trained'),
        'find_unused_parameters': True,
    }
    if cfg.get('optim_wrapper'):
        settings['optim_wrapper'] = _with_our_layer_decay(cfg['optim_wrapper'], len(models))
    schedulers = cfg.get('param_scheduler')
    if isinstance(schedulers, list):
        settings['param_scheduler'] = [each for each in schedulers if not watches_metrics(each)]
    elif schedulers and watches_metrics(schedulers):
        settings['param_scheduler'] = []
    if keeps_best(cfg):
        checkpoint = {key: value for key, value in cfg['default_hooks']['checkpoint'].items() if key not in BEST}
        settings['default_hooks'] = {**cfg['default_hooks'], 'checkpoint': checkpoint}
    return settings


def _anchor(model: FinishedModel, index: int, checkpoint: Path) -> dict:
    """An anchor's config. Converted weights are in the stitched model's checkpoint only."""
    has_names = isinstance(model.model.backbone, AnchorViT)
    own = 'backbone.anchors.0.' if has_names else None
    return {**model.vit.anchor, 'init_cfg': _pretrained(model, own, checkpoint, f'backbone.anchors.{index}.')}


def _part(models: Sequence[FinishedModel], name: str, checkpoint: Path) -> dict | list[dict]:
    """The config of a neck, a head, or a list of heads."""
    parts = [each.cfg['model'][name] for each in models]
    counts = [len(part) if isinstance(part, list) else 'no list' for part in parts]
    if counts == ['no list'] * len(parts):
        return _per_exit(models, parts, name, checkpoint)
    if len(set(counts)) > 1:
        raise UserError(f'the models cannot be stitched, they differ in the number of heads in {name}: {counts}')
    return [
        _per_exit(models, heads, f'{name}.{index}', checkpoint) for index, heads in enumerate(zip(*parts, strict=True))
    ]


def _per_exit(models: Sequence[FinishedModel], heads: Sequence[dict], name: str, checkpoint: Path) -> dict:
    init_cfgs = [
        _pretrained(each, f'{name}.', checkpoint, f'{name}.anchors.{index}.') for index, each in enumerate(models)
    ]
    heads = [{**head, 'init_cfg': init_cfg} for head, init_cfg in zip(heads, init_cfgs, strict=True)]
    return {'type': 'mmsnnet.PerExit', 'heads': heads, 'exact': True}


def _pretrained(model: FinishedModel, own_prefix: str | None, checkpoint: Path, prefix: str) -> dict:
    """Where training loads a part from: its own checkpoint, or else that of the stitched model."""
    is_own = own_prefix is not None and model.is_plain
    source, start = (model.checkpoint, own_prefix) if is_own else (str(checkpoint), prefix)
    return {'type': 'Pretrained', 'checkpoint': absolute(source), 'prefix': start}


def _loop(cfg: dict, phase: str, type_: str, routes: str) -> dict | None:
    """A loop over routes in place of a config's own; None if it has no data for it."""
    if cfg.get(f'{phase}_dataloader') is None:
        return None
    return {**(cfg.get(f'{phase}_cfg') or {}), 'type': type_, 'routes': routes}


def _with_our_layer_decay(optim_wrapper: dict, num_anchors: int) -> dict:
    """The same wrapper; layer-wise decay, if it has it, by our constructor and alike in all anchors."""
    constructor = str(optim_wrapper.get('constructor')).rpartition('.')[2]
    if constructor not in _LAYER_DECAY:
        return optim_wrapper
    rate = optim_wrapper['paramwise_cfg'][_LAYER_DECAY[constructor]]
    rates = rate * num_anchors if isinstance(rate, list) else rate
    return {
        **optim_wrapper,
        'constructor': 'mmsnnet.LayerDecayOptimWrapperConstructor',
        'paramwise_cfg': {'layer_decay_rate': rates},
    }


def _listed(imports: str | Sequence[str] | None) -> list[str]:
    names = [imports] if isinstance(imports, str) else imports or []
    return [name for name in names if name != 'mmsnnet']
