"""The precisions that a model can run in."""

import torch

DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


def mixed_precision(dtype: str, device: torch.device) -> torch.autocast:
    """A context in which a model runs in one of ``DTYPES``: as it is in float32, otherwise in mixed precision."""
    return torch.autocast(device.type, DTYPES[dtype], enabled=dtype != 'float32')
