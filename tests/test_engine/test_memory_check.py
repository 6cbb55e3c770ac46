"""What training takes is told before it starts; trying it changes nothing."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner

from mmsnnet.building import build_model
from mmsnnet.engine import configured_input_shape, memory_check
from mmsnnet.engine.memory_check import check_memory, configured_optimizer, configured_setting, rehearse
from mmsnnet.errors import UserError
from mmsnnet.evaluation import predict_extremes
from mmsnnet.models import find_backbone

CROP = (32, 48)


@pytest.fixture
def gpu(monkeypatch):
    """Let a processor's memory run out, as that of a GPU does."""
    monkeypatch.setattr(memory_check, '_can_run_out', lambda model: True)


def with_random_parts(make_config, **changes):
    """The toy segmentor with drop path, dropout, running statistics and Adam."""
    cfg = make_config(**{'model.decode_head.norm_cfg': dict(type='SyncBN', _delete_=True), **changes})
    for anchor in cfg.model.backbone.anchors:
        anchor.drop_path_rate = 0.3
    cfg.model.decode_head.dropout_ratio = 0.3
    return cfg


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def log_of(runner: Runner) -> str:
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def test_training_with_a_rehearsal_ends_as_without(make_config, tmp_path, gpu, monkeypatch):
    rehearsed = train(with_random_parts(make_config, work_dir=str(tmp_path / 'rehearsed')))
    monkeypatch.setattr(memory_check, 'rehearse', lambda *_: None)
    plain = train(with_random_parts(make_config, work_dir=str(tmp_path / 'plain')))
    for key, value in rehearsed.model.state_dict().items():
        assert torch.equal(value, plain.model.state_dict()[key]), key


def test_memory_is_of_training_images_and_costs_of_the_windows_of_tests(make_config):
    windows = dict(mode='slide', crop_size=(64, 96), stride=(64, 96))
    cfg = make_config(**{'model.test_cfg': windows})
    model = build_model(cfg)
    assert configured_input_shape(model, cfg) == (64, 96)
    assert configured_setting(model, cfg).input_shape == CROP


def test_rehearsal_runs_the_most_expensive_route_and_leaves_no_trace(make_config, gpu):
    runner = Runner.from_cfg(with_random_parts(make_config))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    model, backbone, run = runner.model.eval(), find_backbone(runner.model), []
    backbone.set_route('s[0:2]')
    backbone.register_forward_hook(lambda module, images, _: run.append((module.route.name, len(images[0]))))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    # When training has started, its data loader is there.
    assert runner.train_dataloader
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    check_memory(runner, CROP, backbone.space)
    # The prediction, and the rehearsal with the configured batch.
    assert run == [('l[0:4]', 2)] * 2
    assert backbone.route.name == 's[0:2]'
    assert not model.training
    assert not runner.optim_wrapper.optimizer.state
    assert all(parameter.grad is None for parameter in model.parameters())
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_rehearsal_holds_what_the_optimizer_will_keep(make_config, gpu, monkeypatch):
    reserved, empty = [], torch.empty
    monkeypatch.setattr(
        memory_check.torch, 'empty', lambda *size, **kwargs: reserved.append(size) or empty(*size, **kwargs)
    )
    runner = Runner.from_cfg(make_config())
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    predicted = predict_extremes(
        runner.model, runner.optim_wrapper.optimizer, configured_setting(runner.model, runner.cfg)
    )
    (most,) = (memory for name, memory in predicted.items() if name.startswith('most expensive'))
    reserved.clear()
    rehearse(runner.model, runner.optim_wrapper, configured_setting(runner.model, runner.cfg), most)
    assert (most.optimizer_state,) in reserved


def test_out_of_memory_is_told_in_one_line(make_config, gpu, monkeypatch):
    def run_out(*_):
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')

    monkeypatch.setattr(memory_check, 'functional_call', run_out)
    message = (
        r'^out of memory: .* l\[0:4\], which takes [\d.]+ GiB \(.*\), does not fit with 2 images of 32x48 a step: '
    )
    with pytest.raises(UserError, match=message + r'lower train_dataloader\.batch_size, .*with_cp=True.*--amp$'):
        train(make_config())


def test_start_of_the_log_tells_what_training_takes(make_config, tmp_path):
    line = r'training takes at most 0.0 GiB (weights 0.0, gradients 0.0, optimizer state 0.0, activations 0.0), '
    log = log_of(train(make_config(log_level='INFO')))
    assert line + 'predicted for 2 images of 32x48 a step and route l[0:4]' in log
    # On a processor, where nobody reads it, it is not predicted either.
    # Runs that begin in the same second write to the same log file of a folder.
    quiet = make_config(work_dir=str(tmp_path / 'quiet'))
    assert 'training takes' not in log_of(train(quiet))


@pytest.mark.parametrize(
    ('function', 'failure'),
    [('predict_training_memory', 'cannot be predicted'), ('functional_call', 'cannot be tried')],
)
def test_what_fails_on_blank_images_does_not_stop_training(make_config, gpu, monkeypatch, function, failure):
    def fail(*_):
        raise RuntimeError('no shapes\nfor this')

    monkeypatch.setattr(memory_check, function, fail)
    runner = train(make_config(log_level='INFO', **{'train_cfg.max_iters': 1}))
    assert f'training takes {failure}: RuntimeError: no shapes for this' in log_of(runner)
    assert runner.iter == 1


def test_setting_is_that_of_the_runner(make_config, monkeypatch):
    cfg = make_config(**{'train_dataloader.batch_size': 3})
    runner = Runner.from_cfg(cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    assert memory_check._setting(runner, CROP) == configured_setting(runner.model, cfg)
    # Mixed precision asks for a GPU when it is built.
    mixed = object.__new__(AmpOptimWrapper)
    mixed._accumulative_counts = 2
    mixed.cast_dtype = torch.bfloat16
    runner.optim_wrapper = mixed
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', accumulative_counts=2)
    assert memory_check._setting(runner, CROP) == configured_setting(runner.model, cfg)
    assert configured_setting(runner.model, cfg).dtype == 'bfloat16'


def test_prediction_sends_nothing_to_other_ranks(make_config, monkeypatch):
    cfg = with_random_parts(make_config)
    model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(build_model(cfg))
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    # With a process group, such a norm refuses processors, and asks the other ranks.
    assert predict_extremes(model, configured_optimizer(model, cfg), configured_setting(model, cfg))
