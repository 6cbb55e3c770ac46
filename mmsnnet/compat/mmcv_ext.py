"""Stands in for ``mmcv._ext``, the compiled half of mmcv, where mmcv has none (mmcv-lite).

`import mmcv.ops` asks this module for some hundred functions by name. The few that Mask R-CNN and friends call on every
image are served from torchvision, with the calling conventions of mmcv 2.1.0's C++: results go into tensors that the
caller allocated. Every other name is a function that says, when called, that it needs compiled mmcv.

Python runs this file under the name ``mmcv._ext``, so it imports nothing of its own package.
"""

from collections.abc import Callable
from typing import NoReturn

import torch
import torchvision

from mmsnnet.errors import UserError

_POOL_AVG = 1  # mmcv.ops.roi_align writes 'max' as 0 and 'avg' as 1
_SERVED = ('nms', 'roi_align_forward', 'roi_align_backward')


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float, offset: int) -> torch.Tensor:
    """Indices (K,) of the boxes (N, 4) that survive, by falling score.

    Args:
        offset: 0, or 1 where x2 and y2 name the last pixel inside a box: its width is then x2 - x1 + 1.
    """
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
            input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
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
            grad_output, rois, spatial_scale, aligned_height, aligned_width, *grad_input.shape, sampling_ratio, aligned
        )
    )


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
            f'only {", ".join(_SERVED)} work, served from torchvision. Install compiled mmcv 2.1.0 to use {name!r}: '
            '`pip uninstall mmcv-lite`, then `mim install mmcv==2.1.0`.'
        )

    needs_compiled_mmcv.__name__ = name
    return needs_compiled_mmcv


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != _POOL_AVG:
        raise UserError(
            "RoIAlign's pool_mode 'max' needs compiled mmcv; torchvision serves 'avg' only. Use pool_mode='avg', or "
            'install compiled mmcv 2.1.0: `pip uninstall mmcv-lite`, then `mim install mmcv==2.1.0`.'
        )
