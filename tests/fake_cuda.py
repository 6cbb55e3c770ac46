"""A device where there is none: modules run on tensors without values, and whatever would make it wait is noted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_COPIES = ('aten::_to_copy', 'aten::copy_')
_READ_BACKS = ('aten::_local_scalar_dense', 'aten::equal')


class DeviceWatch(TorchDispatchMode):
    """Notes operations on devices other than the CPU.

    Attributes:
        mixed: that take a tensor of the device and one of the CPU, which is no number: errors, or hidden copies
            (indexing).
        crossings: that copy to or from the device, or read back to the host, which waits for all that it has to do.
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
        if name in _READ_BACKS and inputs - {'cpu'}:
            self.crossings.append(name)
            return _some_value(name, args[0])
        outputs = func(*args, **(kwargs or {}))
        devices = inputs | _devices(outputs)
        if len(devices) > 1 and name in _COPIES:
            self.crossings.append(name)
        elif len(inputs) > 1:
            self.mixed.append(name)
        if devices - {'cpu'} and not _is_view(func):
            self.kernels.append(name)
        return outputs


def _devices(values: Any) -> set[str]:
    """Kinds of devices of all tensors but single numbers of the CPU, which go with any device."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    return {tensor.device.type for tensor in tensors if tensor.ndim or tensor.device.type != 'cpu'}


def _some_value(name: str, tensor: Tensor) -> float | bool:
    """What is read back, for want of a value: equal tensors, conditions that do not hold, numbers that are 1."""
    if name == 'aten::equal':
        return True
    return False if tensor.dtype == torch.bool else 1.0


def _is_view(func: Any) -> bool:
    if func.namespace == 'prim' or func.name() == 'aten::_unsafe_view':
        return True
    returns = func._schema.returns
    return any(value.alias_info is not None and not value.alias_info.is_write for value in returns)


@contextmanager
def fake_cuda() -> Iterator[DeviceWatch]:
    """Lets ``device='cuda'`` name a device that computes shapes only."""
    with FakeTensorMode(), DeviceWatch() as watch:
        yield watch


def moved(module: nn.Module, device: str) -> nn.Module:
    """A module on ``'meta'``, or within ``fake_cuda`` on ``'cuda'``; its values are lost."""
    return module._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device=device))
