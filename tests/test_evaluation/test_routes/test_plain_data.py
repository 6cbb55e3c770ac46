"""Results of metrics on disk: the same when read, and nothing but data."""

import math
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mmsnnet.errors import UserError
from mmsnnet.evaluation.routes.plain_data import from_bytes, to_bytes

VALUES = [
    None,
    True,
    3,
    -0.1,
    math.inf,
    'sky',
    b'\x00\xffP',
    [1, [2.5, (3, 'four')], {5}],
    {'size': [3, 4], 7: ('a', None), (1, 2): {}},
    np.float32(0.1),
    np.int64(5),
    np.bool_(True),
    np.array(['a', 'bc']),
    np.zeros((2, 0, 3), np.float16),
    np.arange(12, dtype=np.int64).reshape(3, 4).T,
    torch.arange(6.0).reshape(2, 3).T,
    torch.tensor(5, dtype=torch.int16),
    torch.empty(0, 4),
    torch.tensor([True, False]),
    torch.tensor([1.5, -2], dtype=torch.bfloat16),
]


def assert_same(value, expected) -> None:
    assert type(value) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert value.dtype == expected.dtype
        assert value.shape == expected.shape
        assert torch.equal(value, expected)
    elif isinstance(expected, np.ndarray | np.generic):
        assert value.dtype == expected.dtype
        assert np.array_equal(value, expected)
    elif isinstance(expected, list | tuple):
        for item, other in zip(value, expected, strict=True):
            assert_same(item, other)
    else:
        assert value == expected


def test_values_come_back_as_they_were():
    assert_same(from_bytes(to_bytes(VALUES)), VALUES)


def test_what_comes_back_may_be_changed_in_place():
    array, tensor = from_bytes(to_bytes([np.zeros(2), torch.zeros(2)]))
    array += 1
    tensor += 1
    assert array.tolist() == tensor.tolist() == [1, 1]


def test_special_collections_come_back_as_plain_ones():
    ordered, shape, names = from_bytes(to_bytes([OrderedDict(a=math.nan), torch.Size([2, 3]), frozenset('a')]))
    assert math.isnan(ordered['a'])
    assert (shape, names) == ((2, 3), {'a'})


@pytest.mark.parametrize('value', [slice(1), [{'a': object()}], np.array([object()]), torch.nn.Linear(1, 1)])
def test_refuses_what_is_no_data(value):
    with pytest.raises(UserError, match=r'a metric collects .*, which cannot be kept as plain data'):
        to_bytes(value)


def test_reading_runs_no_code():
    with pytest.raises(ValueError, match='utf-8'):
        from_bytes((8).to_bytes(8, 'little') + pickle.dumps(print))
