"""A CUDA device where there is none: modules run on fake tensors, and whatever would make the device wait is noted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_COPIES = ('aten::_to_copy', 'aten::copy_')
# What the host has to know the outcome of, and some outcome for it.
_READ_BACKS = {'aten::_local_scalar_dense': 1.0, 'aten::equal': True, 'aten::is_nonzero': True}


class DeviceWatch(TorchDispatchMode):
    """Notes operations on fake tensors.

    Attributes:
        mixed: that take a CUDA tensor and one of the CPU, which is no number: errors, or hidden copies (indexing).
        crossings: that copy between devices or read back to the host, which waits for all that the device has to do.
        kernels: that compute on the device; views are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []
        self.crossings: list[str] = []
        self.kernels: list[str] = []

    def clear(self) -> None:
        for notes in (self.mixed, self.crossings, self.kernels):
            notes.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name, _, _ = func.name().partition('.')
        inputs = _devices([args, kwargs])
        if 'cuda' in inputs and name in _READ_BACKS:
            self.crossings.append(name)
            return _READ_BACKS[name]
        outputs = func(*args, **(kwargs or {}))
        devices = inputs | _devices(outputs)
        if name in _COPIES:
            if len(devices) > 1:
                self.crossings.append(name)
        elif len(inputs) > 1:
            self.mixed.append(name)
        if 'cuda' in devices and name.startswith('aten::') and not _is_view(func):
            self.kernels.append(name)
        return outputs


def _devices(values: Any) -> set[str]:
    """Kinds of devices of all tensors but single numbers of the CPU."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    return {tensor.device.type for tensor in tensors if tensor.ndim or tensor.device.type != 'cpu'}


def _is_view(func: Any) -> bool:
    if func.name() == 'aten::_unsafe_view':
        return True
    returns = func._schema.returns
    return any(value.alias_info is not None and not value.alias_info.is_write for value in returns)


@contextmanager
def fake_cuda() -> Iterator[DeviceWatch]:
    """Lets ``device='cuda'`` name a fake device."""
    with FakeTensorMode(), DeviceWatch() as watch:
        yield watch


def on_fake_cuda(module: nn.Module) -> nn.Module:
    """Move a module made outside of ``fake_cuda``; its values are lost."""
    return module._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda'))
