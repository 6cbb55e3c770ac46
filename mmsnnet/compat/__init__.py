"""What OpenMMLab of 2024 needs to run on today's PyTorch, one file a matter. These are patches; `untrusted.py` is none.

| file | matter | what it does |
|---|---|---|
| `mmcv_ops.py` | mmcv without compiled ops (mmcv-lite) | offers `mmcv_ext.py` as `mmcv._ext` |
| `half_precision_boxes.py` | MMDetection's boxes overflow under mixed precision | computes them in float32 |
| `checkpoints.py` | `torch.load` reads plain types only, mmengine pickles more | writes plain files, reads them back |
| `last_checkpoint.py` | a run killed while mmengine noted its last checkpoint cannot be resumed | finds it |
"""

import functools

from . import checkpoints, half_precision_boxes, last_checkpoint, mmcv_ops

__all__ = ['install']


@functools.cache
def install() -> None:
    """Apply everything, once a process; a second call does nothing.

    Call it before anything imports ``mmcv.ops``. It imports neither mmcv, mmseg nor mmdet, and needs none of them.
    """
    mmcv_ops.install()
    half_precision_boxes.install()
    checkpoints.install()
    last_checkpoint.install()
