"""Checkpoint files that hold plain types and tensors only, so that ``torch.load(weights_only=True)`` reads them.

PyTorch >= 2.6 reads nothing else by default, since unpickling an object runs code. mmengine 0.10.7 pickles its loss
history (`HistoryBuffer`, a class, its functions and numpy arrays) into every checkpoint, and cannot read that back.

So this file translates where mmengine's files are written and read, and nowhere else: `save_checkpoint` writes the
plain form of what it is given, and `CheckpointLoader.load_checkpoint`, through which every read goes, returns what
was given. In memory a checkpoint stays what mmengine says it is; no hook, loop or tool sees the plain form. A hook
would do less: `before_save_checkpoint` runs before the last hooks had their say, is not asked by `published_keys`, and
must be in the config; nor does `after_load_checkpoint` help those who read a checkpoint without a Runner.

An mmengine without this package still loads such a file: weights, optimizer and schedulers as ever, and it skips the
loss history with a warning.
"""

import functools
import logging
import pickle
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from inspect import isfunction
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import checkpoint as mmengine_checkpoint

from mmsnnet.errors import UserError

_TYPE = 'mmsnnet_type'  # marks a dict that stands for an object
_ANNEALING = 'anneal_func'  # of the state of mmengine's OneCycleLR
_SCALARS = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.dtype, torch.device, torch.Size)
_DICTS = (OrderedDict, Counter, dict)  # in the order to try: the first two are dicts too
_COLLECTIONS = (list, tuple, set)


def install() -> None:
    """Make mmengine write plain files and read them back."""
    save, loader = mmengine_checkpoint.save_checkpoint, mmengine_checkpoint.CheckpointLoader
    plain_save = _plain_save(save)
    for module in list(sys.modules.values()):  # all who hold the function by `from ... import save_checkpoint`
        if getattr(module, '__dict__', {}).get('save_checkpoint') is save:
            module.save_checkpoint = plain_save
    loader.load_checkpoint = staticmethod(_plain_load(loader.load_checkpoint))


def to_plain(value: Any) -> Any:
    """The plain form of ``value``: what can be written without pickling objects.

    Loss histories and numpy arrays become marked dicts of tensors, numpy scalars Python's, and special dicts and
    sequences (``ConfigDict``, named tuples) the built-in ones. What is plain already is returned itself, not copied.
    OneCycle's function is left out: a scheduler has it from its settings. An object that has no plain form stays, with
    a warning: a file that needs trust is better than a lost state.
    """
    if isinstance(value, HistoryBuffer):
        log_history, count_history = map(_to_tensor, value.data)
        return {
            _TYPE: 'HistoryBuffer',
            'log_history': log_history,
            'count_history': count_history,
            'max_length': value.max_length,
        }
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biufc':
        return {_TYPE: 'ndarray', 'data': _to_tensor(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind in 'SU':
        return {_TYPE: 'ndarray', 'data': value.tolist()}
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in _SCALARS or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict) and isfunction(value.get(_ANNEALING)):
        value = {key: item for key, item in value.items() if key != _ANNEALING}
    if isinstance(value, (*_DICTS, *_COLLECTIONS, frozenset)):
        return _convert_items(value, to_plain)
    _warn_not_plain(type(value))
    return value


def from_plain(value: Any) -> Any:
    """Undo `to_plain`.

    Raises:
        ValueError: A marked dict of a type that this version does not know.
    """
    if type(value) not in (*_DICTS, *_COLLECTIONS):
        return value
    return _restore(value) if _TYPE in value else _convert_items(value, from_plain)


def _restore(marked: dict) -> HistoryBuffer | np.ndarray:
    if marked[_TYPE] == 'HistoryBuffer':
        return HistoryBuffer(_to_numpy(marked['log_history']), _to_numpy(marked['count_history']), marked['max_length'])
    if marked[_TYPE] == 'ndarray':
        return _to_numpy(marked['data'])
    raise UserError(
        f'the checkpoint holds {_TYPE} {marked[_TYPE]!r}, this mmsnnet knows HistoryBuffer and ndarray: '
        'read it with the newer mmsnnet that wrote it'
    )


def _convert_items(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Apply ``convert`` to all keys and items of a dict or collection, and make it one that needs no pickled class.

    What changes nothing returns ``value`` itself: a state dict carries its ``_metadata`` as an attribute.
    """
    is_dict = isinstance(value, dict)
    old = [part for pair in value.items() for part in pair] if is_dict else list(value)
    new = [convert(part) for part in old]
    kind = next((kind for kind in (*_DICTS, *_COLLECTIONS) if isinstance(value, kind)), set)  # set: was a frozenset
    if type(value) is kind and all(a is b for a, b in zip(old, new, strict=True)):
        return value
    converted = kind(dict(zip(new[::2], new[1::2], strict=True)) if is_dict else new)
    if type(value) is OrderedDict:
        vars(converted).update(vars(value))
    return converted


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(array.dtype.newbyteorder('=')))  # a copy, contiguous and in native byte order


def _to_numpy(data: torch.Tensor | list) -> np.ndarray:
    return data.cpu().numpy() if isinstance(data, torch.Tensor) else np.array(data)


@functools.cache
def _warn_not_plain(cls: type) -> None:
    print_log(
        f'The checkpoint holds a {cls.__module__}.{cls.__qualname__}, which has no plain form: torch.load will refuse '
        'the file unless told to trust it. Find who puts it there (a hook, or MessageHub.update_info with '
        'resumed=True) and store numbers, strings, lists, dicts or tensors instead.',
        logger='current',
        level=logging.WARNING,
    )


def _plain_save(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def save_checkpoint(checkpoint: dict, filename: str, *args: Any, **kwargs: Any) -> None:
        save(to_plain(checkpoint), filename, *args, **kwargs)

    return save_checkpoint


def _plain_load(load: Callable[..., dict]) -> Callable[..., dict]:
    @functools.wraps(load)
    def load_checkpoint(filename: str, *args: Any, **kwargs: Any) -> dict:
        try:
            return from_plain(load(filename, *args, **kwargs))
        except pickle.UnpicklingError as error:
            # PyTorch has a switch for this already, so there is no second one here
            raise UserError(
                f'{filename} is not a file of plain types and tensors: it holds pickled Python objects, as older '
                'checkpoints do, or it is no checkpoint. Unpickling can run any code. If you trust whoever wrote it, '
                'set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 in the environment and run the same command again; '
                'checkpoints written from then on need no trust.'
            ) from error
        except RuntimeError as error:
            if 'PytorchStreamReader' not in str(error):
                raise
            raise UserError(
                f'{filename} is damaged, perhaps cut short while it was written or copied: copy it again, or take an '
                'earlier checkpoint'
            ) from error

    return load_checkpoint
