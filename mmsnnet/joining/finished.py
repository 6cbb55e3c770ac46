"""Finished models of OpenMMLab: loading them, and whether two of them can be stitched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmsnnet.building import build_model
from mmsnnet.compat.untrusted import load_untrusted
from mmsnnet.errors import UserError
from mmsnnet.files import check_file, is_url
from mmsnnet.joining.convert_mmseg import LoneAnchor, convert_mmseg_backbone, is_mmseg_vit
from mmsnnet.models import AnchorViT, create_anchor, find_mismatch
from mmsnnet.models.anchors import check_compatible
from mmsnnet.models.weights import weights_in, without_pretrained
from mmsnnet.settings import is_named, name_of_type
from mmsnnet.stitching import StitchSpace
from mmsnnet.stitching.plan import tapped_block

# Parts of a model that exist once for each anchor of a stitched one.
PARTS = ('neck', 'decode_head', 'auxiliary_head', 'rpn_head', 'roi_head', 'bbox_head', 'mask_head', 'head')
# Settings and hooks that watch the metrics of the largest model, which stay as they are.
BEST = ('save_best', 'rule')
EARLY_STOPPING = 'EarlyStoppingHook'
ON_PLATEAU = 'ReduceOnPlateau'
_OTHER_KEYS = (
    'type', 'data_preprocessor', 'backbone', 'num_stages', 'train_cfg', 'test_cfg', 'pretrained', 'init_cfg'
)  # fmt: skip
# Where a data set lies may differ.
_PATHS = ('data_root', 'data_prefix', 'ann_file')
_PATCH_BIAS = 'backbone.patch_embed.projection.bias'


@dataclass(frozen=True)
class FinishedModel:
    """A trained segmentor, depth estimator, detector or classifier.

    Attributes:
        config, checkpoint: where it was loaded from.
        cfg: plain values.
        model: with its weights, in evaluation mode.
        meta: of the checkpoint.
        is_plain: whether training can load the checkpoint, which then has no pickled objects beside the weights.
        vit: its backbone as an anchor.
        notes: what a user should know of how it was read.
    """

    config: str
    checkpoint: str
    cfg: dict
    model: nn.Module
    meta: dict
    is_plain: bool
    vit: LoneAnchor
    notes: tuple[str, ...]

    @property
    def dataset_meta(self) -> dict:
        """Classes and palette of the data, as today's or older checkpoints name them; empty if unknown."""
        older = {name.lower(): self.meta[name] for name in ('CLASSES', 'PALETTE') if self.meta.get(name)}
        return self.meta.get('dataset_meta') or older

    @property
    def parts(self) -> list[str]:
        return [name for name in PARTS if self.cfg['model'].get(name) is not None]


def load_finished(config: str, checkpoint: str) -> FinishedModel:
    """Build the model of a config, and load its checkpoint.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a model that cannot become part of a stitched one; a checkpoint that is not of this model.
    """
    cfg = Config.fromfile(check_file(config, 'config')).to_dict()
    content, is_plain = _read(check_file(checkpoint, 'checkpoint'))
    weights = weights_in(content)
    model, notes = _build(cfg, config), []
    if is_mmseg_vit(model.backbone) and _PATCH_BIAS in weights and _PATCH_BIAS not in model.state_dict():
        # Models from before this setting existed have the bias. Today's class by default leaves it out.
        cfg['model']['backbone']['patch_bias'] = True
        model = _build(cfg, config)
        notes.append(f'{checkpoint} has a bias of patches, which {config} leaves out: it is used')
    problem = find_mismatch(model.state_dict(), weights)
    if problem:
        raise UserError(f'{checkpoint} is of another architecture than {config}: {problem}')
    model.load_state_dict(weights)
    vit = _anchor_of(model.backbone, cfg['model']['backbone'], config)
    return FinishedModel(config, checkpoint, cfg, model.eval(), content.get('meta', {}), is_plain, vit, tuple(notes))


def check_pair(small: FinishedModel, large: FinishedModel) -> None:
    """Refuse two models that cannot be stitched.

    Raises:
        ValueError: saying why, in one line.
    """
    kinds = [type(each.model).__name__ for each in (small, large)]
    _check_same('the kind of model', *kinds)
    _check_same('their parts', small.parts, large.parts)
    _check_same('the number of classes', _num_classes(small.model), _num_classes(large.model))
    _check_same('num_stages', *(each.cfg['model'].get('num_stages') for each in (small, large)))
    _check_same('their classes', *(_class_names(each) for each in _with_class_names(small, large)))
    _check_same('reduce_zero_label', *map(_reduces_zero_label, (small, large)))
    _check_same('min_depth and max_depth of their heads', _depth_limits(small.model), _depth_limits(large.model))
    if _test_files(small) == _test_files(large):
        # Files of another format may need another factor.
        _check_same('depth_rescale_factor of the same files', *map(_depth_factor, (small, large)))
    for setting in ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'):
        _check_same(f'{setting} of data_preprocessor', _preprocessing(small, setting), _preprocessing(large, setting))
    anchors = [create_anchor(**each.vit.anchor) for each in (small, large)]
    check_compatible(anchors)
    sizes = [sum(parameter.numel() for parameter in anchor.parameters()) for anchor in anchors]
    depths = [anchor.depth for anchor in anchors]
    if sizes[0] >= sizes[1] or depths[0] > depths[1]:
        raise UserError(
            f'the small model must come first, but its backbone has {depths[0]} blocks and {sizes[0] / 1e6:.3g} M '
            f"parameters, the large one's {depths[1]} and {sizes[1] / 1e6:.3g} M: swap them, or take another pair"
        )
    _check_same('final_norm', small.vit.final_norm, large.vit.final_norm)
    _check_same('out_type', small.vit.out_type, large.vit.out_type)
    _check_same('output_cls_token', small.vit.output_cls_token, large.vit.output_cls_token)
    space = StitchSpace([anchor.stages for anchor in anchors])
    wanted = tuple(tapped_block(space, 0, block) for block in large.vit.out_indices)
    if small.vit.out_indices != wanted:
        raise UserError(
            f"levels do not correspond: the small model's leave after blocks {small.vit.out_indices}, but those of the "
            f'large one, {large.vit.out_indices}, correspond to {wanted}: take models trained on corresponding blocks'
        )


def differences(small: FinishedModel, large: FinishedModel) -> list[str]:
    """Settings of the small model that a stitched one takes from the large one; they may change its scores."""
    notes = []
    for key, of in (
        ('data_preprocessor', _data_preprocessor),
        ('test_cfg', lambda model: model.cfg['model'].get('test_cfg')),
        ('test data set', _test_data_set),
    ):
        if of(small) != of(large):
            notes.append(f"{key} differs: the large model's is used for both")
    watching = [
        *(['save_best'] if keeps_best(large.cfg) else []),
        *(EARLY_STOPPING for hook in large.cfg.get('custom_hooks') or () if is_named(hook, EARLY_STOPPING)),
        *(scheduler['type'] for scheduler in _schedulers(large.cfg) if watches_metrics(scheduler)),
    ]
    if watching:
        notes.append(f'{", ".join(watching)}: left out, for they watch the large model, which stays as it is')
    slowed = [key for key, rate in _backbone_rates(large.cfg).items() if rate < 1]
    if slowed:
        notes.append(
            f'paramwise_cfg slows {", ".join(slowed)} down, which holds for the updates of the backbone, too: remove '
            'it from the written config, unless you want that'
        )
    if large.cfg.get('train_dataloader') is None:
        notes.append('the config of the large model has no train_dataloader: the written one cannot train')
    return notes


def watches_metrics(scheduler: Mapping) -> bool:
    """Whether a scheduler of parameters, such as ``ReduceOnPlateauLR``, waits for metrics to change."""
    return name_of_type(scheduler.get('type', '')).startswith(ON_PLATEAU)


def _schedulers(cfg: Mapping) -> list[Mapping]:
    schedulers = cfg.get('param_scheduler') or []
    return schedulers if isinstance(schedulers, list) else [schedulers]


def _backbone_rates(cfg: Mapping) -> dict[str, float]:
    """For each key of ``custom_keys`` that matches a backbone as a whole, how it multiplies the learning rate."""
    paramwise = (cfg.get('optim_wrapper') or {}).get('paramwise_cfg') or {}
    keys = paramwise.get('custom_keys') or {}
    return {key: rates.get('lr_mult', 1) for key, rates in keys.items() if key and key in 'backbone.'}


def keeps_best(cfg: Mapping) -> bool:
    """Whether the checkpoint hook of a config keeps the best checkpoint."""
    return bool(((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best'))


def _test_data_set(model: FinishedModel) -> dict:
    """Settings of the data set that a model is tested on, but for where it lies."""
    return {key: value for key, value in _test_settings(model).items() if key not in _PATHS}


def _test_files(model: FinishedModel) -> dict:
    """Settings of where that data set lies."""
    return {key: value for key, value in _test_settings(model).items() if key in _PATHS}


def _test_settings(model: FinishedModel) -> dict:
    return (model.cfg.get('test_dataloader') or {}).get('dataset') or {}


def _depth_factor(model: FinishedModel) -> float | None:
    """What makes metres of the values in files; None where no depth is loaded."""
    steps = [step for step in _test_settings(model).get('pipeline') or () if is_named(step, 'LoadDepthAnnotation')]
    return steps[0].get('depth_rescale_factor', 1.0) if steps else None


def _reduces_zero_label(model: FinishedModel) -> bool:
    """Whether class 0 of the annotations is left out. MMSegmentation keeps this with the classes."""
    if 'reduce_zero_label' in model.dataset_meta:
        return bool(model.dataset_meta['reduce_zero_label'])
    return "'reduce_zero_label': True" in str(_test_settings(model))


def _data_preprocessor(model: FinishedModel) -> dict:
    """MMEngine takes it from either place."""
    return model.cfg['model'].get('data_preprocessor') or model.cfg.get('data_preprocessor') or {}


def _read(checkpoint: str) -> tuple[dict, bool]:
    """What a checkpoint holds, and whether it is plain. MMEngine by itself pickles the loss history into it."""
    if is_url(checkpoint):
        return CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu'), True
    content, unread = load_untrusted(Path(checkpoint))
    return content, not unread


def _build(cfg: dict, config: str) -> nn.Module:
    settings = cfg.get('model') or {}
    if 'backbone' not in settings:
        raise UserError(
            f'{config} has no model with a backbone: give the config of a segmentor, a depth estimator, a detector or '
            'a classifier'
        )
    unknown = sorted(settings.keys() - {*PARTS, *_OTHER_KEYS})
    if unknown:
        raise UserError(f'{config} has model.{unknown[0]}, which cannot exist once for each anchor: known are {PARTS}')
    try:
        # From a copy: detectors complete the configs of their heads.
        model = build_model(Config(cfg))
    except KeyError as error:
        raise UserError(f'cannot build the model of {config}: {error.args[0]}') from error
    if not isinstance(model.backbone, AnchorViT) and not is_mmseg_vit(model.backbone):
        raise UserError(
            f'{config} has a {type(model.backbone).__name__} backbone: an anchor must be an AnchorViT, or '
            "MMSegmentation's VisionTransformer, BEiT or MAE"
        )
    return model


def _anchor_of(backbone: nn.Module, cfg: Mapping, config: str) -> LoneAnchor:
    if isinstance(backbone, AnchorViT):
        (anchor,) = backbone.anchors
        arguments = without_pretrained(backbone.timm_args[0])
        return LoneAnchor(
            arguments,
            backbone.out_indices,
            anchor.state_dict(),
            backbone.final_norm,
            backbone.out_type,
            backbone.output_cls_token,
        )
    try:
        return convert_mmseg_backbone(backbone, cfg)
    except UserError as error:
        raise UserError(f'{config}: {error}') from error


def _check_same(what: str, *values: object) -> None:
    if any(value != values[0] for value in values):
        raise UserError(f'the models cannot be stitched, they differ in {what}: {values[0]} and {values[-1]}')


def _num_classes(model: nn.Module) -> list[int]:
    """Numbers of classes of all heads but the RPN's, which has none."""
    named = ((name, getattr(module, 'num_classes', None)) for name, module in model.named_modules())
    return sorted({number for name, number in named if isinstance(number, int) and not name.startswith('rpn_head')})


def _depth_limits(model: nn.Module) -> list[tuple[float, float]]:
    """(nearest, farthest) of all heads of depth."""
    heads = (module for module in model.modules() if hasattr(module, 'min_depth') and hasattr(module, 'max_depth'))
    return sorted({(head.min_depth, head.max_depth) for head in heads})


def _with_class_names(*models: FinishedModel) -> Sequence[FinishedModel]:
    """The models, if all of their checkpoints name the classes."""
    return models if all(_class_names(each) for each in models) else ()


def _class_names(model: FinishedModel) -> list[str]:
    return list(model.dataset_meta.get('classes') or ())


def _preprocessing(model: FinishedModel, setting: str) -> list[float] | bool:
    value = _data_preprocessor(model).get(setting, False)
    return [float(number) for number in value] if isinstance(value, Sequence) else bool(value)
