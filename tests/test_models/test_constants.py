"""Constants of grids: made once, within bounds, and only of real tensors."""

import pytest
import torch
from fake_cuda import fake_cuda
from timm.models.beit import gen_relative_position_index
from torch import Tensor

from mmsnnet.models.anchors.beit import _INDICES, _relative_position_index
from mmsnnet.models.constants import ConstantCache

LIKE = torch.empty(0)
MIB = 2**18  # numbers of float32


class Maker:
    """Makes a constant of some MiB, and counts how often."""

    def __init__(self, size_mb: int = 1) -> None:
        self.size_mb = size_mb
        self.count = 0

    def __call__(self) -> Tensor:
        self.count += 1
        return torch.zeros(self.size_mb * MIB)


def test_a_constant_is_made_once_for_each_dtype_and_device():
    cache, make = ConstantCache(max_mb=8), Maker()
    for like in (LIKE, LIKE.half(), LIKE.to('meta')):
        assert cache.get('name', like, make) is cache.get('name', like, make)
    assert make.count == 3


def test_those_used_last_are_kept_within_the_bound():
    cache = ConstantCache(max_mb=2)
    makers = [Maker() for _ in range(3)]
    for index in (0, 1, 0, 2, 0):
        cache.get(index, LIKE, makers[index])
        assert cache.size_mb <= 2
    cache.get(1, LIKE, makers[1])
    assert [make.count for make in makers] == [1, 2, 1]


def test_the_newest_is_kept_whatever_it_takes():
    cache, make = ConstantCache(max_mb=2), Maker(size_mb=5)
    cache.get('small', LIKE, Maker())
    for _ in range(2):
        cache.get('large', LIKE, make)
    assert make.count == 1
    assert cache.size_mb == 5


def test_a_constant_made_in_inference_mode_serves_training():
    cache = ConstantCache(max_mb=2)
    with torch.inference_mode():
        cache.get('name', LIKE, Maker())
    constant = cache.get('name', LIKE, Maker())
    assert not constant.is_inference()
    (torch.ones(MIB, requires_grad=True) * constant).sum().backward()


def test_tensors_without_values_are_not_kept():
    cache, make = ConstantCache(max_mb=2), Maker()
    with fake_cuda():
        cache.get('name', torch.empty(0), make)
    assert type(cache.get('name', LIKE, make)) is Tensor


@pytest.mark.parametrize('grid', [(2, 3), (1, 1), (1, 6), (7, 3)], ids=str)
def test_indices_of_relative_positions_are_timm_s(grid):
    index = _relative_position_index(grid, torch.device('cpu'))
    assert index.dtype == torch.int32
    assert torch.equal(index.long(), gen_relative_position_index(grid))


def test_one_table_of_indices_of_a_large_image_fits():
    """1024x2048 with patches of 16: 256 MiB, half of what int64 takes."""
    index = _relative_position_index((64, 128), torch.device('meta'))
    assert index.nbytes == (1 + 64 * 128) ** 2 * 4
    assert index.nbytes <= _INDICES.max_mb * 2**20
