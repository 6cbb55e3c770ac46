"""Tensors that have shapes and types but no values, and so take neither memory nor time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torchvision  # noqa: F401 (defines torchvision::nms)
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


@contextmanager
def without_values() -> Iterator[None]:
    """Let operators compute the shapes of their results alone.

    Where a shape depends on values, it is the largest possible one: all elements are found, all boxes survive. A single
    value that is read is 1.
    """
    # Backward passes stay in this thread, whose modes these are; nothing is sent to other processes.
    one_thread = torch.autograd.set_multithreading_enabled(False)
    one_process = patch.object(torch.distributed, 'is_initialized', lambda: False)
    with FakeTensorMode(allow_non_fake_inputs=True), _NoCopies(), _LargestShapes(), one_thread, one_process:
        yield


class _LargestShapes(TorchDispatchMode):
    """Gives operators whose results depend on values the largest shapes."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        answer = _ANSWERS.get(func)
        return answer(*args) if answer else func(*_without_booleans(func, args), **(kwargs or {}))


class _NoCopies(TorchFunctionMode):
    """Replaces the methods that need a tensor's memory."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.numpy:
            return np.ones(tuple(args[0].shape), str(args[0].dtype).removeprefix('torch.'))
        if func is Tensor.__deepcopy__:
            return args[0].clone()
        return func(*args, **(kwargs or {}))


def _one(tensor: Tensor) -> bool | int | float:
    if tensor.dtype is torch.bool:
        return True
    return 1.0 if tensor.is_floating_point() else 1


def _indices(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.int64)


def _without_booleans(func: Any, args: tuple) -> tuple:
    """Arguments with boolean masks replaced by lists of all indices."""
    if func is not aten.index.Tensor:
        return args
    tensor, indices = args
    return tensor, [new for index in indices for new in _all_indices(index)]


def _all_indices(index: Tensor | None) -> list[Tensor | None]:
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    return [_indices(index, index.numel()) for _ in range(index.ndim)]


_ANSWERS: dict[Any, Callable] = {
    aten._local_scalar_dense.default: _one,
    aten.equal.default: lambda *_: True,
    aten.nonzero.default: lambda tensor: _indices(tensor, tensor.numel(), tensor.ndim),
    aten._unique2.default: lambda tensor, *_: (
        tensor.new_empty(tensor.numel()),
        _indices(tensor, *tensor.shape),
        _indices(tensor, tensor.numel()),
    ),
    torch.ops.torchvision.nms.default: lambda boxes, *_: _indices(boxes, len(boxes)),
}
