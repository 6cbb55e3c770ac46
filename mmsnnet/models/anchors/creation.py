"""Make anchors from ``timm.create_model``'s arguments."""

from collections.abc import Callable
from pathlib import Path

import timm
from timm.layers import DropPath
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.models.anchors.beit import BeitAnchor
from mmsnnet.models.anchors.eva import EvaAnchor
from mmsnnet.models.anchors.plain import Anchor, final_norm_of
from mmsnnet.models.anchors.swin import SwinAnchor
from mmsnnet.models.anchors.windowed import WindowedAnchor
from mmsnnet.models.windows import to_windowed
from mmsnnet.settings import check_number, check_word


def create_anchor(
    model: str,
    with_cp: bool = False,
    windowed: dict | None = None,
    final_norm: bool = False,
    out_type: str = 'featmap',
    output_cls_token: bool = False,
    norm_eps: float | None = None,
    resize_mode: str = 'bicubic',
    norm_last_block: bool = False,
    constant_drop_path: float | None = None,
    **timm_kwargs,
) -> Anchor:
    """An anchor from ``timm.create_model``'s arguments.

    Args:
        model: a name that timm knows.
        with_cp: recompute each block in the backward pass instead of keeping its activations.
        windowed: arguments of ``to_windowed``; default: attention as the model has it.
        final_norm, out_type, output_cls_token: of ``Anchor``.
        norm_eps: epsilon of all layer norms; default: the model's.
        resize_mode: how position embeddings are resized, ``'bicubic'`` or ``'bilinear'``.
        norm_last_block: let the norm that follows the blocks be part of the last one. Unlike ``final_norm``, it leaves
            levels after other blocks as they are (MMSegmentation's ViTs).
        constant_drop_path: the drop path rate of every block. timm's ``drop_path_rate`` is the last block's, to which
            the rates of the others rise from 0.
        **timm_kwargs: other arguments of ``timm.create_model``.

    Raises:
        FileNotFoundError: a local weight file is missing.
        ValueError: timm cannot build this model or load its weights, or there is no adapter for it.
    """
    check_local_files(model, timm_kwargs)
    try:
        vit = timm.create_model(model, num_classes=0, **timm_kwargs)
    # Not only what timm raises: downloads fail in many ways.
    except Exception as error:
        raise UserError(explain(model, timm_kwargs, error)) from error
    vit = vit if windowed is None else _windowed(vit, windowed)
    if constant_drop_path is not None:
        _set_drop_path(vit, constant_drop_path)
    if norm_last_block:
        if not hasattr(vit, 'blocks'):
            raise UserError(f'norm_last_block is for plain ViTs, this is a {type(vit).__name__}: leave it out')
        vit.blocks[-1].final_norm = final_norm_of(vit)
        vit.blocks[-1].register_forward_hook(_apply_final_norm)
    anchor = wrap_vit(vit, with_cp=with_cp, final_norm=final_norm, out_type=out_type, output_cls_token=output_cls_token)
    anchor.resize_mode = check_word('resize_mode', resize_mode, ('bicubic', 'bilinear'))
    for norm in anchor.modules() if norm_eps is not None else ():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = norm_eps
    return anchor


def wrap_vit(vit: nn.Module, **kwargs) -> Anchor:
    """The adapter of a timm model; ``kwargs`` are its other arguments.

    Raises:
        ValueError: no adapter for this class.
    """
    adapters: tuple[type[Anchor], ...] = (Anchor, WindowedAnchor, EvaAnchor, BeitAnchor, SwinAnchor)
    # Exact classes: a subclass (distilled, hybrid, ...) has another forward pass, which we would silently ignore.
    for adapter in adapters:
        if type(vit) is adapter.family:
            return adapter(vit, **kwargs)
    known = ', '.join(adapter.family.__name__ for adapter in adapters)
    raise UserError(f"cannot stitch timm's {type(vit).__name__}: an anchor must be one of {known}")


def _windowed(vit: nn.Module, arguments: dict) -> VisionTransformerSAM:
    try:
        return to_windowed(vit, **arguments)
    except TypeError as error:
        raise UserError(f"an anchor's 'windowed' cannot have {arguments}: {error}") from error


def _set_drop_path(vit: nn.Module, rate: float) -> None:
    if check_number('constant_drop_path', rate, low=0) >= 1:
        raise UserError(f'constant_drop_path must be below 1, got {rate}: at 1, no block would train')
    blocks = [module for module in vit.modules() if hasattr(module, 'drop_path1')]
    if not blocks:
        raise UserError(f'constant_drop_path cannot be set in a {type(vit).__name__}: use drop_path_rate')
    for block in blocks:
        # Where timm's rate is 0, as in the first block, there is another module.
        block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)


def check_compatible(anchors: list[Anchor]) -> None:
    """Raise a ``ValueError`` with both values where two anchors cannot be stitched."""
    first = anchors[0]
    properties: dict[str, Callable[[Anchor], object]] = {
        'class': lambda anchor: anchor.family.__name__,
        'patch size': lambda anchor: anchor.patch_size,
        'number of prefix tokens (class, registers)': lambda anchor: anchor.num_prefix_tokens,
        'number of stages': lambda anchor: len(anchor.stages),
        'size of windows': lambda anchor: getattr(anchor, 'window_size', None),
    }
    for index, anchor in enumerate(anchors):
        for name, value in properties.items():
            if value(anchor) != value(first):
                raise UserError(
                    f'anchors 0 and {index} cannot be stitched, they differ in {name}: {value(first)} and '
                    f'{value(anchor)}; choose models of one timm family'
                )


def _apply_final_norm(block: nn.Module, args: tuple, tokens: Tensor) -> Tensor:
    return block.final_norm(tokens)


def check_local_files(model: str, timm_kwargs: dict) -> None:
    overlay = timm_kwargs.get('pretrained_cfg_overlay') or {}
    files = [timm_kwargs.get('checkpoint_path')]
    if timm_kwargs.get('pretrained'):
        files.append(overlay.get('file'))
    for file in files:
        if file and not Path(file).is_file():
            raise FileNotFoundError(f'no weight file {str(file)!r} for anchor {model!r}')


def explain(model: str, timm_kwargs: dict, error: Exception) -> str:
    reason = f'{type(error).__name__}: {error}'.splitlines()
    message = f'timm cannot create anchor {model!r} with {timm_kwargs}: {" ".join(reason[:3])}'
    if timm_kwargs.get('pretrained'):
        message += (
            " (a local file: init_cfg=dict(type='TimmPretrained', file=PATH); without weights: no init_cfg and no "
            'pretrained)'
        )
    return message
