"""``SigLoss``: its formula, its warm-up, and finite gradients where the formula has none."""

import pytest
import torch
from torch import Tensor

from mmsnnet.depth import SigLoss
from mmsnnet.errors import UserError
from mmsnnet.registry import MODELS


def depths(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions, and ground truth of which some pixels are not measured and some lie far away."""
    generator = torch.Generator().manual_seed(seed)
    predicted, truth = (torch.rand(2, 1, 6, 7, generator=generator) * 10 + 0.5 for _ in range(2))
    truth[:, :, :2] = 0
    truth[0, :, 3] = 255
    return predicted.requires_grad_(), truth


def by_hand(predicted: Tensor, truth: Tensor, warming_up: bool, max_depth: float = float('inf')) -> Tensor:
    valid = (truth > 0) & (truth <= max_depth)
    errors = torch.log(predicted[valid] + 0.001) - torch.log(truth[valid] + 0.001)
    return ((0 if warming_up else torch.var(errors)) + 0.15 * errors.mean() ** 2).sqrt()


@pytest.mark.parametrize('max_depth', [None, 10.0])
def test_is_the_formula_pooled_over_the_batch(max_depth):
    loss, (predicted, truth) = SigLoss(max_depth=max_depth, loss_weight=2.0).eval(), depths()
    expected = 2 * by_hand(predicted, truth, False, max_depth or float('inf'))
    value = loss(predicted, truth)
    torch.testing.assert_close(value, expected)
    gradients = (torch.autograd.grad(result, predicted)[0] for result in (value, expected))
    torch.testing.assert_close(*gradients)
    assert loss.loss_name == 'loss_sig'


def test_first_training_iterations_leave_the_variance_out():
    loss, (predicted, truth) = SigLoss(warm_up_iters=3), depths()
    values = [loss(predicted, truth) for _ in range(5)]
    warm, full = (by_hand(predicted, truth, warming_up) for warming_up in (True, False))
    torch.testing.assert_close(torch.stack(values), torch.stack([warm] * 3 + [full] * 2))
    assert SigLoss().warm_up_iters == 100


def test_evaluation_neither_counts_nor_warms_up():
    loss, (predicted, truth) = SigLoss(warm_up_iters=1).eval(), depths()
    torch.testing.assert_close(loss(predicted, truth), by_hand(predicted, truth, False))
    torch.testing.assert_close(loss.train()(predicted, truth), by_hand(predicted, truth, True))


def test_a_checkpoint_brings_the_count():
    first, (predicted, truth) = SigLoss(warm_up_iters=2), depths()
    first(predicted, truth), first(predicted, truth)
    resumed = SigLoss(warm_up_iters=2)
    resumed.load_state_dict(first.state_dict())
    torch.testing.assert_close(resumed(predicted, truth), by_hand(predicted, truth, False))


@pytest.mark.parametrize('warm_up_iters', [0, 100])
@pytest.mark.parametrize('case', ['no valid pixel', 'one', 'perfect'])
def test_loss_and_gradient_are_finite(warm_up_iters, case):
    loss, (predicted, truth) = SigLoss(warm_up_iters), depths()
    truth = {'no valid pixel': torch.zeros_like(truth), 'one': torch.zeros_like(truth), 'perfect': predicted.detach()}[
        case
    ]
    if case == 'one':
        truth[0, 0, 0, 0] = 3.0
    value = loss(predicted, truth)
    value.backward()
    assert predicted.grad.isfinite().all()
    if case == 'one':
        torch.testing.assert_close(value, by_hand(predicted, truth, True))
        assert predicted.grad.count_nonzero() == 1
    else:
        assert value == 0
        assert not predicted.grad.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_precision(dtype):
    predicted, truth = depths()
    with torch.autocast('cpu', dtype):
        value = SigLoss().eval()(predicted.to(dtype), truth)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, by_hand(predicted.to(dtype).float(), truth, False))


def test_reads_nothing_back_to_the_host():
    """On ``meta`` there is nothing to read, and reading raises."""
    loss, (predicted, truth) = SigLoss(max_depth=10.0).to('meta'), depths()
    loss(predicted.detach().to('meta').requires_grad_(), truth.to('meta')).backward()


def test_builds_by_its_bare_name():
    assert isinstance(MODELS.build(dict(type='SigLoss', loss_name='loss_depth')), SigLoss)


@pytest.mark.parametrize('settings', [dict(warm_up_iters=-1), dict(max_depth=0), dict(loss_weight='1')], ids=str)
def test_refuses_settings(settings):
    with pytest.raises(UserError, match=f'{next(iter(settings))} must be a'):
        SigLoss(**settings)
