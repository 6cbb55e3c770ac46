"""Weights of single anchors, loaded when training starts."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.files import is_url
from mmsnnet.models.anchors import Anchor, create_anchor

# Arguments of timm.create_model that bring weights.
PRETRAINED_ARGS = ('pretrained', 'pretrained_cfg_overlay', 'checkpoint_path')


def without_pretrained(timm_args: Mapping) -> dict:
    """Arguments of ``timm.create_model`` for the same model with random weights."""
    return {key: value for key, value in timm_args.items() if key not in PRETRAINED_ARGS}


def init_anchor(anchor: Anchor, arguments: dict, init_cfg: dict) -> None:
    """Load an anchor as its ``init_cfg`` says.

    Args:
        anchor: to load into.
        arguments: of ``create_anchor``, which it was created from.
        init_cfg: ``dict(type='TimmPretrained')`` for timm's weights of this model, with ``file=PATH`` from a file; or
            ``dict(type='Pretrained', checkpoint=PATH, prefix=PREFIX)`` for those keys of a checkpoint that start with
            ``prefix``, e.g. ``'backbone.anchors.0.'`` of a segmentor trained with ``AnchorViT``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ``type`` or argument; weights that do not fit.
    """
    loaders = {'TimmPretrained': _load_timm, 'Pretrained': _load_checkpoint}
    init_cfg = dict(init_cfg)
    kind = init_cfg.pop('type', None)
    if kind not in loaders:
        raise UserError(f"an anchor's init_cfg must be of type {' or '.join(map(repr, loaders))}, got {kind!r}")
    try:
        loaders[kind](anchor, arguments, **init_cfg)
    except TypeError as error:
        raise UserError(f"an anchor's init_cfg of type {kind!r} cannot have {init_cfg}: {error}") from error


def _load_timm(anchor: Anchor, arguments: dict, file: str | None = None) -> None:
    overlay = {'pretrained_cfg_overlay': {'file': file}} if file else {}
    anchor.load_state_dict(create_anchor(**{**arguments, **overlay, 'pretrained': True}).state_dict())


def _load_checkpoint(anchor: Anchor, arguments: dict, checkpoint: str, prefix: str = '') -> None:
    load_part(anchor, f'anchor {arguments["model"]!r}', checkpoint, prefix)


def load_part(module: nn.Module, name: str, checkpoint: str, prefix: str = '') -> None:
    """Load into a part of a model those keys of a checkpoint that start with ``prefix``; all of them must fit.

    Raises:
        FileNotFoundError: no such file.
        ValueError: weights that do not fit.
    """
    if not is_url(checkpoint) and not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f'no checkpoint {checkpoint!r}, from which {name} starts: train it first, or point its init_cfg to another '
            'file'
        )
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = weights_in(loaded)
    weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    problem = find_mismatch(module.state_dict(), weights)
    if problem:
        raise UserError(f'{checkpoint} (keys {prefix!r}...) does not fit {name}: {problem}')
    module.load_state_dict(weights)


def weights_in(checkpoint: Mapping) -> dict[str, Tensor]:
    """The weights in a checkpoint, by their names in the model; a model in parallel puts a prefix before them."""
    weights = checkpoint.get('state_dict', checkpoint)
    return {key.removeprefix('module.'): value for key, value in weights.items()}


def find_mismatch(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str | None:
    """How two state dicts differ, in one line; None where they fit."""
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(given.keys() - wanted.keys())
    reshaped = [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if reshaped:
        key = min(reshaped)
        return f'{key} has shape {tuple(given[key].shape)}, the model wants {tuple(wanted[key].shape)}'
    if missing:
        return f'{len(missing)} keys are missing, e.g. {missing[0]}'
    if unexpected:
        return f'{len(unexpected)} keys are unknown, e.g. {unexpected[0]}'
    return None
