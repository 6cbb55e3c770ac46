"""Law 3: a fresh low-rank update changes nothing; ``train()`` and ``eval()`` never change a weight."""

import pytest
import torch
from toys import randomise

from mmsnnet.models import StitchingLayer

TOKENS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))


def affine(layer: StitchingLayer) -> torch.Tensor:
    return TOKENS @ layer.weight.T + layer.bias


def trained(layer: StitchingLayer) -> set[str]:
    return {name for name, parameter in layer.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize('lora_rank', [0, 1, 4])
def test_fresh_layer_is_its_affine_map(lora_rank):
    layer = StitchingLayer(8, 12, lora_rank)
    torch.testing.assert_close(layer(TOKENS), affine(layer))
    assert not layer.bias.any()
    assert layer.weight.any()


def test_update_is_scaled_by_its_rank():
    layer = randomise(StitchingLayer(8, 12, 4))
    update = TOKENS @ layer.lora_a.T @ layer.lora_b.T / 4
    torch.testing.assert_close(layer(TOKENS), affine(layer) + update)
    assert update.abs().max() > 0.01


def test_fresh_update_can_learn():
    """B starts at zero, A does not: else the product would have no gradient at all."""
    layer = StitchingLayer(8, 12, 4)
    layer(TOKENS).sum().backward()
    assert not layer.lora_b.any()
    assert layer.lora_a.any()
    assert layer.lora_b.grad.any()


@pytest.mark.parametrize('lora_rank', [0, 4])
def test_modes_change_no_weight_and_no_output(lora_rank):
    layer = randomise(StitchingLayer(8, 12, lora_rank))
    weights = {key: value.clone() for key, value in layer.state_dict().items()}
    output = layer.eval()(TOKENS)
    for _ in range(2):
        assert torch.equal(layer.train()(TOKENS), output)
        assert torch.equal(layer.eval()(TOKENS), output)
    assert layer.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in layer.state_dict().items())


def test_least_squares_weight_is_frozen_under_an_update():
    layer = randomise(StitchingLayer(8, 12, 4))
    assert trained(layer) == {'bias', 'lora_a', 'lora_b'}
    layer(TOKENS).square().sum().backward()
    assert layer.weight.grad is None
    assert all(layer.get_parameter(name).grad.any() for name in trained(layer))


def test_rank_zero_trains_the_full_matrix():
    assert trained(StitchingLayer(8, 12, 0)) == {'weight', 'bias'}


@pytest.mark.parametrize('lora_rank', [0, 4])
def test_set_affine_sets_weight_and_bias_only(lora_rank):
    layer = randomise(StitchingLayer(8, 12, lora_rank))
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    frozen = not layer.weight.requires_grad
    weight, bias = torch.randn(12, 8, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    layer.set_affine(weight, bias)
    after = layer.state_dict()
    assert torch.equal(after.pop('weight'), weight.float())
    assert torch.equal(after.pop('bias'), bias.float())
    assert all(torch.equal(value, before[key]) for key, value in after.items())
    assert layer.weight.requires_grad is not frozen


def test_shows_its_sizes():
    assert repr(StitchingLayer(8, 12, 4)) == 'StitchingLayer(8, 12, lora_rank=4)'
