"""Predicted training memory is what a training step takes."""

from dataclasses import astuple

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import nn
from torch.optim import Optimizer

from mmsnnet.building import build_model
from mmsnnet.evaluation.profiling import training_memory
from mmsnnet.evaluation.profiling.peak_memory import CountedStorages
from mmsnnet.evaluation.profiling.training_memory import (
    TrainingMemory,
    TrainingSetting,
    TrainingStep,
    num_bytes,
    predict_training_memory,
    routes_by_memory,
)
from mmsnnet.models import find_backbone
from mmsnnet.models.blank_batch import blank_batch

CROP = (32, 48)
SGD = {'type': 'SGD', 'lr': 0.1}


def build(cfg: Config, device: str, optimizer: dict) -> tuple[nn.Module, Optimizer]:
    with torch.device(device):
        model = build_model(cfg)
    return model, build_optim_wrapper(model, {'type': 'OptimWrapper', 'optimizer': optimizer}).optimizer


def predict_from_shapes(cfg: Config, setting: TrainingSetting, route: int, optimizer: dict = SGD) -> TrainingMemory:
    """For a model that has no memory of its own."""
    model, optimizer = build(cfg, 'meta', optimizer)
    find_backbone(model).set_route(route)
    return predict_training_memory(model, optimizer, setting)


def measure(cfg: Config, setting: TrainingSetting, route: int) -> tuple[CountedStorages, int]:
    """A real training step, and bytes of its gradients."""
    model, _ = build(cfg, 'cpu', SGD)
    find_backbone(model).set_route(route)
    with CountedStorages() as counted:
        batch = blank_batch(model, setting.batch_size, setting.input_shape, 'cpu')
        gradients = TrainingStep(model.train(), setting.autocast)(*batch)
    return counted, num_bytes(gradients.values())


@pytest.mark.parametrize(
    ('job', 'setting', 'routes'),
    [
        ('make_config', TrainingSetting(CROP, 2), range(4)),
        ('make_config', TrainingSetting(CROP, 3, 'bfloat16'), range(4)),
        # CPUs pool regions in float32 alone.
        ('make_detection_config', TrainingSetting((64, 64), 2), (1, 3)),
        ('make_rooms_config', TrainingSetting((96, 128), 2), (0, 3)),
        ('make_rooms_config', TrainingSetting((96, 128), 3, 'bfloat16'), (3,)),
    ],
)
def test_prediction_is_what_a_step_takes(job, setting, routes, request, monkeypatch):
    # In small images, as many objects as a real step samples regions from take memory of their own.
    monkeypatch.setattr(training_memory, 'BOXES_PER_SIDE', 10)
    cfg = request.getfixturevalue(job)()
    for route in routes:
        predicted = predict_from_shapes(cfg, setting, route)
        measured, gradients = measure(cfg, setting, route)
        assert predicted.step == pytest.approx(measured.peak, rel=0.02)
        assert predicted.gradients == gradients
        assert 0 < predicted.activations <= predicted.step


def test_recomputed_blocks_leave_less(make_config):
    plain = predict_from_shapes(make_config(), TrainingSetting(CROP, 8), 1)
    recomputed = predict_from_shapes(make_config(**{'model.backbone.with_cp': True}), TrainingSetting(CROP, 8), 1)
    assert recomputed.activations < 0.7 * plain.activations
    assert recomputed.step < plain.step


@pytest.mark.parametrize(
    ('optimizer', 'states'),
    [(SGD, 0), ({**SGD, 'momentum': 0.9}, 1), ({'type': 'AdamW', 'lr': 0.1}, 2)],
    ids=['SGD', 'momentum', 'AdamW'],
)
def test_optimizer_keeps_its_state_of_all_that_trains(make_config, optimizer, states):
    cfg = make_config(**{'model.backbone.frozen_anchors': [0]})
    model, _ = build(cfg, 'cpu', SGD)
    trained = num_bytes(parameter for parameter in model.parameters() if parameter.requires_grad)
    predicted = predict_from_shapes(cfg, TrainingSetting(CROP, 2), 1, optimizer)
    # Adam counts the steps of each parameter, too.
    assert predicted.optimizer_state == pytest.approx(states * trained, rel=0.02)
    assert predicted.buckets == trained
    assert predicted.weights == num_bytes([*model.parameters(), *model.buffers()])
    assert predicted.total(distributed=True) - predicted.total(distributed=False) == trained
    accumulating = predict_from_shapes(cfg, TrainingSetting(CROP, 2, accumulates=True), 1, optimizer)
    assert accumulating.step - predicted.step == trained


def test_model_and_optimizer_stay_as_they_are(make_config):
    model, optimizer = build(make_config(), 'cpu', {**SGD, 'momentum': 0.9})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first, second = (predict_training_memory(model.eval(), optimizer, TrainingSetting(CROP, 2)) for _ in range(2))
    assert astuple(first) == astuple(second)
    assert not model.training
    assert not optimizer.state
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_routes_are_in_the_order_of_what_they_take(make_config):
    model, optimizer = build(make_config(), 'meta', SGD)
    backbone, taken = find_backbone(model), []
    for route in routes_by_memory(backbone, backbone.space):
        backbone.set_route(route)
        taken.append(predict_training_memory(model, optimizer, TrainingSetting(CROP, 8)).activations)
    assert taken == sorted(taken)
