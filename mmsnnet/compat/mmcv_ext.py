"""Stands in for ``mmcv._ext``, the compiled half of mmcv, where mmcv has none (mmcv-lite).

`import mmcv.ops` asks this module for some hundred functions by name. The few that Mask R-CNN and friends call on every
image are served from torchvision, those of deformable attention from mmcv's own code for CPUs. The calling conventions
are those of mmcv 2.1.0's C++: most results go into tensors that the caller allocated. Every other name is a function
that says, when called, that it needs compiled mmcv.

Python runs this file under the name ``mmcv._ext``, so of its own package it imports `errors` alone.
"""

from collections.abc import Callable
from typing import NoReturn

import torch
import torchvision

from mmsnnet.errors import UserError

_POOL_AVG = 1  # mmcv.ops.roi_align writes 'max' as 0 and 'avg' as 1
_SERVED = ('nms', 'roi_align_forward', 'roi_align_backward', 'ms_deform_attn_forward', 'ms_deform_attn_backward')


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
    """Indices (K,) of the boxes (N, 4) that survive, by falling score.

    Args:
        offset: 0, or 1 where x2 and y2 name the last pixel inside a box: its width is then x2 - x1 + 1.
    """
    boxes = _wide(boxes)
    if offset:  # torchvision has no offset, but moving x2 and y2 gives the same widths, heights and overlaps
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares with a float, torchvision with a double: boxes that overlap by exactly 0.4 would fare differently
    iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    # mmcv only sorts by the scores, so it takes any dtype (half under AMP); torchvision wants that of the boxes
    return torchvision.ops.nms(boxes, scores.to(boxes.dtype), iou_threshold)


def roi_align_forward(
    input: torch.Tensor,
    rois: torch.Tensor,
    output: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pool ``input`` (B, C, H, W) at ``rois`` (K, 5) into ``output`` (K, C, aligned_height, aligned_width).

    ``argmax_y`` and ``argmax_x`` belong to max pooling and stay as they are.

    Raises:
        ValueError: ``pool_mode`` is max.
    """
    _check_pool_mode(pool_mode)
    output.copy_(
        torch.ops.torchvision.roi_align(
            _wide(input), _wide(rois), spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: torch.Tensor,
    rois: torch.Tensor,
    argmax_y: torch.Tensor,
    argmax_x: torch.Tensor,
    grad_input: torch.Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to ``grad_input`` (B, C, H, W) what ``grad_output`` (K, C, aligned_height, aligned_width) sends back.

    Raises:
        ValueError: ``pool_mode`` is max.
    """
    _check_pool_mode(pool_mode)
    grad_input.add_(
        torch.ops.torchvision._roi_align_backward(
            _wide(grad_output),
            _wide(rois),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def ms_deform_attn_forward(
    value: torch.Tensor,
    value_spatial_shapes: torch.Tensor,
    value_level_start_index: torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    im2col_step: int,
) -> torch.Tensor:
    """Multi-scale deformable attention (B, Q, heads * C) of values (B, N, heads, C) of several maps.

    Args:
        value_spatial_shapes: height and width of each map (L, 2).
        value_level_start_index: (L,), not needed, as is ``im2col_step``.
        sampling_locations: x and y (B, Q, heads, L, P, 2) in parts of a map's size.
        attention_weights: (B, Q, heads, L, P).
    """
    # It imports this module.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    # The one time that these are read back from the device.
    shapes = value_spatial_shapes.tolist()
    attended = multi_scale_deformable_attn_pytorch(
        _wide(value), shapes, _wide(sampling_locations), _wide(attention_weights)
    )
    return attended.to(value.dtype)


def ms_deform_attn_backward(
    value: torch.Tensor,
    value_spatial_shapes: torch.Tensor,
    value_level_start_index: torch.Tensor,
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    grad_output: torch.Tensor,
    grad_value: torch.Tensor,
    grad_sampling_loc: torch.Tensor,
    grad_attn_weight: torch.Tensor,
    im2col_step: int,
) -> None:
    """Add to the last three gradients, of the shapes of what they belong to, what ``grad_output`` sends back."""
    inputs = [tensor.detach().requires_grad_() for tensor in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        attended = ms_deform_attn_forward(
            inputs[0], value_spatial_shapes, value_level_start_index, *inputs[1:], im2col_step
        )
    gradients = torch.autograd.grad(attended, inputs, grad_output)
    for total, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        total.add_(gradient)


def get_compiler_version() -> str:
    """For mmcv's ``collect_env``, which asks wherever it can import ``mmcv.ops``."""
    return 'n/a'


def get_compiling_cuda_version() -> str:
    """For mmcv's ``collect_env``, as above."""
    return 'n/a'


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Every op that is not served: it exists, and says what to do when called."""
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def needs_compiled_mmcv(*args: object, **kwargs: object) -> NoReturn:
        raise UserError(
            f'{name!r} is a compiled op of mmcv, and the installed mmcv has no compiled ops (mmcv-lite). Without them '
            f'only {", ".join(_SERVED)} work. Install compiled mmcv 2.1.0 to use {name!r}: '
            '`pip uninstall mmcv-lite`, then `mim install mmcv==2.1.0`.'
        )

    needs_compiled_mmcv.__name__ = name
    return needs_compiled_mmcv


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """In float32, or float64 as it is: torchvision has no bfloat16, and on CPUs no float16."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != _POOL_AVG:
        raise UserError(
            "RoIAlign's pool_mode 'max' needs compiled mmcv; torchvision serves 'avg' only. Use pool_mode='avg', or "
            'install compiled mmcv 2.1.0: `pip uninstall mmcv-lite`, then `mim install mmcv==2.1.0`.'
        )
