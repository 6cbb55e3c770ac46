"""``SimpleFPN``: levels of the right sizes, all from the one map, alike wherever the image is."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from toys import randomise

from mmsnnet.models import SimpleFPN


@torch.no_grad()
@pytest.mark.parametrize(('num_outs', 'start_level'), [(4, 0), (5, 0), (6, 0), (3, 1), (4, 1), (1, 3)])
def test_levels(num_outs, start_level):
    neck = randomise(SimpleFPN(32, out_channels=8, num_outs=num_outs, start_level=start_level)).eval()
    levels = neck((torch.randn(2, 32, 8, 12),))
    expected = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3), (1, 2)][start_level:][:num_outs]
    assert [tuple(level.shape) for level in levels] == [(2, 8, *size) for size in expected]


def test_every_parameter_trains():
    neck = randomise(SimpleFPN([32], out_channels=8))
    sum(level.square().sum() for level in neck((torch.randn(1, 32, 8, 8),))).backward()
    assert all(parameter.grad.any() for parameter in neck.parameters())


@torch.no_grad()
def test_the_coarsest_level_is_subsampled():
    *_, before, last = randomise(SimpleFPN(32, 8)).eval()((torch.randn(1, 32, 8, 8),))
    assert torch.equal(last, before[..., ::2, ::2])


@torch.no_grad()
def test_levels_are_normalised_over_channels():
    levels = SimpleFPN(32, 8).eval()((torch.randn(1, 32, 8, 8) * 100,))
    for level in levels:
        assert level.mean(dim=1).abs().max() < 1e-4
        torch.testing.assert_close(level.var(dim=1, unbiased=False), torch.ones_like(level[:, 0]), rtol=1e-2, atol=0)


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
@pytest.mark.parametrize('name', ['SimpleFPN', 'mmsnnet.SimpleFPN'])
def test_is_registered_for_mmseg_and_mmdet(scope, name):
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(MODELS.build(dict(type=name, in_channels=32)), SimpleFPN)


def test_refuses_more_than_one_map():
    neck = SimpleFPN(32)
    with pytest.raises(ValueError, match='a pyramid from one map, but the maps that the backbone gives are 2'):
        neck((torch.randn(1, 32, 8, 8),) * 2)
    with pytest.raises(ValueError, match='in_channels are 4'):
        SimpleFPN([32] * 4)
    with pytest.raises(ValueError, match='makes 4 levels or more, got num_outs=3'):
        SimpleFPN(32, num_outs=3)
