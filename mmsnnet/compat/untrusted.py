"""Reads the tensors and plain values of checkpoints that also hold pickled objects, without running any of their code.

Unpickling calls whatever a file names. Here a file gets the few functions that make tensors; every other name gives an
object that does nothing, and is dropped.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from mmsnnet.errors import UserError

# Functions are wrapped: a file may set attributes of what it is given.
_SAFE = {
    ('collections', 'OrderedDict'): lambda: OrderedDict,
    ('torch', 'Size'): lambda: torch.Size,
    ('torch', 'device'): lambda: torch.device,
    ('torch._utils', '_rebuild_parameter'): lambda: lambda *args: torch._utils._rebuild_parameter(*args),
    ('torch._utils', '_rebuild_tensor_v2'): lambda: lambda *args: torch._utils._rebuild_tensor_v2(*args),
}
# How the zip files of torch.save begin.
_ZIP = b'PK\x03\x04'


def load_untrusted(path: Path) -> tuple[dict, dict[str, str]]:
    """A checkpoint's content on the CPU, and of what was dropped, the place and the class.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is no checkpoint of ``torch.save``.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {str(path)!r}')
    try:
        content = torch.load(path, map_location='cpu', **_reader(path))
        if isinstance(content, dict):
            return _without_dropped(content), {place: dropped.origin for place, dropped in _find_dropped(content, '')}
    # A damaged or malicious file may make a reader fail in any way.
    except Exception as error:
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise UserError(
            f'{path} is no checkpoint that torch.save has written, it is damaged, or it holds pickled objects in the '
            f'format before PyTorch 1.6: {reason:.200}'
        ) from error
    raise UserError(f'{path} holds a {type(content).__name__}, and no dict of weights')


def _reader(path: Path) -> dict[str, Any]:
    """Arguments of ``torch.load``. Files of old PyTorch and compiled programs take PyTorch's own safe reader."""
    with path.open('rb') as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
    if is_zip:
        with zipfile.ZipFile(path) as file:
            if not any(name.endswith('/constants.pkl') for name in file.namelist()):
                return {'weights_only': False, 'pickle_module': SimpleNamespace(Unpickler=_Unpickler, __name__='safe')}
    return {'weights_only': True}


class _Dropped:
    """Stands for an object of a class that is not read, and takes whatever unpickling does to it."""

    origin = ''

    def __new__(cls, *_: Any, **__: Any) -> '_Dropped':
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def _ignore(self, *_: Any, **__: Any) -> '_Dropped':
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = update = _ignore


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable:
        if (module, name) in _SAFE:
            return _SAFE[module, name]()
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (_Dropped,), {'origin': f'{module}.{name}'})


def _find_dropped(value: Any, place: str) -> Iterator[tuple[str, _Dropped]]:
    """(place, object) of all that is not read."""
    if isinstance(value, _Dropped) or (isinstance(value, type) and issubclass(value, _Dropped)):
        yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in items:
        within = f'{place}.{key}' if place else str(key)
        yield from _find_dropped(key, within)
        yield from _find_dropped(item, within)


def _without_dropped(value: dict) -> dict:
    """The entries of nested dicts in which nothing was dropped."""
    kept = {}
    for key, item in value.items():
        if any(True for _ in _find_dropped(key, '')):
            continue
        if isinstance(item, dict):
            kept[key] = _without_dropped(item)
        elif not any(True for _ in _find_dropped(item, '')):
            kept[key] = item
    return kept
