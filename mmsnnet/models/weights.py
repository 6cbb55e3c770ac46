"""Weights of single anchors out of whole-model checkpoints."""

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from mmsnnet.models.anchors import Anchor


def load_anchor_weights(anchor: Anchor, checkpoint: str, prefix: str = '', type: str = 'Pretrained') -> None:
    """Load an anchor from the keys of a checkpoint that start with ``prefix``, as its ``init_cfg`` says.

    Args:
        checkpoint: file or URL.
        prefix: e.g. ``'backbone.anchors.0.'`` for a segmentor trained with ``AnchorViT``.
        type: MMEngine's name of this initialisation, ``'Pretrained'``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another ``type``; weights that do not fit.
    """
    if type != 'Pretrained':
        raise ValueError(f"an anchor's init_cfg must have type='Pretrained', got {type!r}")
    loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    weights = loaded.get('state_dict', loaded)
    weights = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    problem = find_mismatch(anchor.state_dict(), weights)
    if problem:
        raise ValueError(f'{checkpoint} (keys {prefix!r}...) does not fit this anchor: {problem}')
    anchor.load_state_dict(weights)


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
