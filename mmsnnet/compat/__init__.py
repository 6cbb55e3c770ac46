"""What OpenMMLab of 2024 needs to run on today's PyTorch, one file a matter.

| file | matter | what it does |
|---|---|---|
| `mmcv_ops.py` | mmcv without compiled ops (mmcv-lite) | offers `mmcv_ext.py` as `mmcv._ext` |
| `checkpoints.py` | `torch.load` reads plain types only, mmengine pickles more | writes plain files, reads them back |
| `last_checkpoint.py` | a run killed while mmengine noted its last checkpoint cannot be resumed | finds it |
"""

import functools

from . import checkpoints, last_checkpoint, mmcv_ops

__all__ = ['install']


@functools.cache
def install() -> None:
    """Apply everything, once a process; a second call does nothing.

    Call it before anything imports ``mmcv.ops``. It imports neither mmcv, mmseg nor mmdet, and needs none of them.
    """
    mmcv_ops.install()
    checkpoints.install()
    last_checkpoint.install()
