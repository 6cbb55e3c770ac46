"""What metrics collect, as bytes of plain data. Unlike unpickling, reading them runs no code.

The bytes are the length of a JSON text, the text, and the content of all arrays in turn. The text has the structure, in
which an array is given by its type, shape and position.
"""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmsnnet.errors import UserError

_LENGTH_BYTES = 8
_TENSOR_DTYPES = {
    str(dtype): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
_ARRAY_KINDS = 'biufcSU'


def to_bytes(value: Any) -> bytes:
    """The bytes of numbers, strings, bytes, arrays, tensors, and of lists, tuples, sets and dicts of these.

    Subclasses of tuples, sets and dicts become plain ones.

    Raises:
        UserError: an object of another class.
    """
    writer = _Writer()
    text = json.dumps(writer.structure(value)).encode()
    return b''.join([len(text).to_bytes(_LENGTH_BYTES, 'little'), text, *writer.contents])


def from_bytes(data: bytes) -> Any:
    """What ``to_bytes`` was given. Tensors come back on the CPU."""
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], 'little')
    return _read(json.loads(data[_LENGTH_BYTES:start]), memoryview(data)[start:])


class _Writer:
    """Turns values into types that JSON has, and collects the content of arrays."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self._size = 0

    def structure(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is list:
            return [self.structure(item) for item in value]
        if isinstance(value, tuple | set | frozenset):
            kind = 'tuple' if isinstance(value, tuple) else 'set'
            return {kind: [self.structure(item) for item in value]}
        if isinstance(value, dict):
            return {'dict': [[self.structure(key), self.structure(item)] for key, item in value.items()]}
        if type(value) is bytes:
            return {'bytes': [len(value), self._put(value)]}
        if isinstance(value, Tensor) and str(value.dtype) in _TENSOR_DTYPES:
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return {'tensor': [str(value.dtype), list(value.shape), self._put(content)]}
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _ARRAY_KINDS:
            kind = 'array' if isinstance(value, np.ndarray) else 'scalar'
            return {kind: [value.dtype.str, list(value.shape), self._put(value.tobytes())]}
        cls = type(value)
        raise UserError(
            f'a metric collects {cls.__module__}.{cls.__qualname__}, which cannot be kept as plain data: '
            "let it collect numbers, strings, arrays and tensors, or evaluate with MMEngine's ValLoop and TestLoop"
        )

    def _put(self, content: bytes) -> int:
        """Collect a content; returns its position."""
        place, self._size = self._size, self._size + len(content)
        self.contents.append(content)
        return place


def _read(structure: Any, contents: memoryview) -> Any:
    """The value of a structure."""
    if isinstance(structure, list):
        return [_read(item, contents) for item in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, details),) = structure.items()
    if kind == 'dict':
        return {_read(key, contents): _read(item, contents) for key, item in details}
    if kind in ('tuple', 'set'):
        return {'tuple': tuple, 'set': set}[kind](_read(item, contents) for item in details)
    if kind == 'bytes':
        length, place = details
        return bytes(contents[place : place + length])
    dtype, shape, place = details
    if kind == 'tensor':
        content = _content(contents, place, _TENSOR_DTYPES[dtype].itemsize, shape)
        return torch.from_numpy(np.frombuffer(content, np.uint8)).view(_TENSOR_DTYPES[dtype]).reshape(shape)
    content = _content(contents, place, np.dtype(dtype).itemsize, shape)
    array = np.frombuffer(content, np.dtype(dtype)).reshape(shape)
    return array if kind == 'array' else array[()]


def _content(contents: memoryview, place: int, item_bytes: int, shape: list[int]) -> bytearray:
    """A copy, because bytes are read-only."""
    return bytearray(contents[place : place + item_bytes * int(np.prod(shape, dtype=np.int64))])
