"""The precisions that a model can run in."""

import torch

from mmsnnet.errors import UserError
from mmsnnet.settings import check_word

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def mixed_precision(dtype: str, device: torch.device) -> torch.autocast:
    """A context in which a model runs in one of ``DTYPES``; all but float32 are mixed precision."""
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != 'float32')


def choose_dtype(dtype: str | None, fp16: bool) -> str:
    """The precision that is asked for: one of ``DTYPES``, or MMEngine's ``fp16``.

    Raises:
        UserError: another word, or two that differ.
    """
    if dtype is None:
        return 'float16' if fp16 else 'float32'
    if fp16 and dtype != 'float16':
        raise UserError(f"fp16=True means dtype='float16', got dtype={dtype!r} beside it: leave one of them out")
    return check_word('dtype', dtype, tuple(DTYPES))
