"""A run that was killed and resumed ends with the very weights of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from mmcv.transforms import TRANSFORMS
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler

from mmsnnet.engine.data_order import seed_each_sample
from mmsnnet.engine.randomness import seeded
from mmsnnet.errors import UserError

ROOT = Path(__file__).parents[2]
ITERATIONS = 7
# Six routes with a switch, of which three, two and one are left before iterations 2, 3 and 5.
HALVING = {
    'model.backbone.anchors.0.depth': 3,
    'model.backbone.anchors.1.depth': 6,
    'custom_hooks.0.focus': dict(routes=1, by='halving', images=3, until=0.6, anchors=False),
}


class Routes(Hook):
    """Keeps what was drawn."""

    priority = 'LOW'

    def __init__(self) -> None:
        self.drawn: dict[int, float] = {}

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        self.drawn[runner.iter] = runner.message_hub.get_scalar('train/route').current()


def train(cfg) -> tuple[Runner, dict[int, float]]:
    runner, routes = Runner.from_cfg(cfg), Routes()
    runner.register_hook(routes)
    run(runner)
    return runner, routes.drawn


def run(runner: Runner) -> None:
    """Train, and end the workers that load data.

    Left to the garbage collector, each makes some later test wait for five seconds: it collects what tells them to end
    before the loader that tells them.
    """
    try:
        runner.train()
    finally:
        runner.train_loop.dataloader_iterator = runner.train_dataloader._iterator = None


def assert_same_end(first: Runner, second: Runner) -> None:
    """Weights and what the optimizer keeps are equal to the last bit."""
    weights, others = first.model.state_dict(), second.model.state_dict()
    assert weights.keys() == others.keys()
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key
    moments, others = (runner.optim_wrapper.optimizer.state_dict()['state'] for runner in (first, second))
    assert moments.keys() == others.keys()
    assert all(torch.equal(moments[key]['exp_avg_sq'], others[key]['exp_avg_sq']) for key in moments)


def random_model(make_config, **changes):
    """The toy segmentor with drop path and dropout, images cropped, flipped and distorted at random."""
    cfg = make_config(**{'train_cfg.max_iters': ITERATIONS, 'train_cfg.val_interval': 3, **changes})
    for anchor in cfg.model.backbone.anchors:
        anchor.drop_path_rate = 0.3
    cfg.model.decode_head.dropout_ratio = 0.3
    cfg.default_hooks.checkpoint.interval = 1
    return cfg


class Interruption(Hook):
    """Stops training after so many iterations."""

    def __init__(self, stop: int) -> None:
        self.stop = stop

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        if runner.iter == self.stop:
            raise KeyboardInterrupt


def interrupt(cfg, stop: int) -> None:
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Interruption(stop))
    with pytest.raises(KeyboardInterrupt):
        run(runner)


@TRANSFORMS.register_module()
class DrawNoise:
    """Draws from every generator, as augmentations do, and keeps the values with the sample."""

    read: ClassVar[list[str]] = []

    def __call__(self, results: dict) -> dict:
        self.read.append(results['img_path'])
        return {**results, 'noise': (random.random(), np.random.rand(), torch.rand(1).item())}


class Noise(Hook):
    """Keeps the noise of all samples that were trained on."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict) -> None:
        self.seen += [value for sample in data_batch['data_samples'] for value in sample.noise]


def with_noise(cfg):
    *steps, pack = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [*steps, dict(type='DrawNoise'), dict(pack, meta_keys=['noise'])]
    return cfg


@pytest.mark.parametrize(
    ('changes', 'stop'),
    [
        # Right after a validation.
        ({}, 3),
        # Five batches are one pass over the images.
        (
            {
                'train_dataloader.num_workers': 2,
                'train_dataloader.persistent_workers': True,
                'train_dataloader.sampler.type': 'DefaultSampler',
            },
            6,
        ),
        ({'custom_hooks.0.sampler': dict(type='LossSampler', sharpness=40.0, _delete_=True)}, 2),
        ({'optim_wrapper.accumulative_counts': 2, 'custom_hooks.0.draw_per': 'batch'}, 4),
        ({**HALVING, 'custom_hooks.0.sampler': dict(type='LossSampler', sharpness=40.0, _delete_=True)}, 2),
        ({**HALVING, 'optim_wrapper.accumulative_counts': 2}, 4),
        ({**HALVING, 'custom_hooks.0.focus': dict(routes=3, by='loss', images=3)}, 3),
    ],
    ids=[
        'after validation',
        'workers, second pass',
        'sampler that learns',
        'accumulated',
        'before a round of halving, sampler that learns',
        'between rounds of halving, accumulated',
        'focus by loss',
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(make_config, tmp_path, changes, stop):
    whole, routes = train(random_model(make_config, work_dir=str(tmp_path / 'whole'), **changes))
    parts = dict(changes, work_dir=str(tmp_path / 'parts'))
    interrupt(random_model(make_config, **parts), stop)
    parts |= {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}
    resumed, rest = train(random_model(make_config, **parts, resume=True))
    assert list(rest) == list(range(min(rest), ITERATIONS))
    assert rest == {iteration: routes[iteration] for iteration in rest}
    assert_same_end(resumed, whole)


@pytest.mark.parametrize(
    'loading', [{'persistent_workers': True}, {'batch_sampler': dict(type='BatchSampler', drop_last=False)}]
)
def test_loop_over_epochs_augments_anew_in_each_and_resumes_between_two(make_config, tmp_path, loading):
    DATA_SAMPLERS.register_module(module=BatchSampler, force=True)

    def make(**changes):
        cfg = with_noise(random_model(make_config, **changes))
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
        cfg.default_hooks.checkpoint.by_epoch = True
        cfg.train_dataloader.update(num_workers=2, batch_size=5, **loading)
        cfg.train_dataloader.sampler.type = 'DefaultSampler'
        return cfg

    whole, noise = Runner.from_cfg(make(work_dir=str(tmp_path / 'whole'))), Noise()
    whole.register_hook(noise)
    run(whole)
    assert len(set(noise.seen)) == len(noise.seen) == 3 * 3 * 10
    interrupt(make(work_dir=str(tmp_path / 'parts')), 4)
    resumed, rest = train(make(work_dir=str(tmp_path / 'parts'), resume=True))
    assert list(rest) == [4, 5]
    assert_same_end(resumed, whole)


def test_resumed_run_reads_no_image_that_it_has_trained_on(make_config):
    interrupt(random_model(make_config), 5)
    DrawNoise.read.clear()
    _, rest = train(with_noise(random_model(make_config, resume=True)))
    assert len(DrawNoise.read) == 2 * len(rest) < 2 * ITERATIONS


def test_a_loop_that_asks_its_iterator_to_skip_gets_the_rest(make_config, monkeypatch):
    """As that of onedl-mmengine does."""
    monkeypatch.setattr(_InfiniteDataloaderIterator, 'skip_iter', lambda *_: None, raising=False)
    runner = Runner.from_cfg(with_noise(random_model(make_config)))
    runner._train_loop = loop = runner.build_train_loop(runner._train_loop)
    loop._iter = 5
    seed_each_sample(runner, seed=0)
    DrawNoise.read.clear()
    loop.dataloader_iterator.skip_iter(5)
    assert len(next(loop.dataloader_iterator)['inputs']) == len(DrawNoise.read) == 2


def test_refuses_epochs_without_a_batch(make_config):
    cfg = make_config(**{'train_dataloader.batch_size': 11, 'train_dataloader.drop_last': True})
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    with pytest.raises(UserError, match=r'no batch: .* smaller train_dataloader\.batch_size'):
        train(cfg)


def test_killed_and_resumed_from_the_command_line(make_detection_config, tmp_path):
    def make(**changes):
        changes = {'train_cfg.max_iters': ITERATIONS, 'default_hooks.checkpoint.interval': 1, **changes}
        return make_detection_config(**changes)

    whole, _ = train(make(work_dir=str(tmp_path / 'whole')))
    config = tmp_path / 'job.py'
    make(work_dir=str(tmp_path / 'parts')).dump(config)
    command = [sys.executable, 'tools/train.py', config]
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, stdout=subprocess.DEVNULL
    )
    seen = tmp_path / 'parts' / f'iter_{random.randint(1, ITERATIONS - 2)}.pth'
    while process.poll() is None and not seen.exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / 'parts' / f'iter_{ITERATIONS}.pth').exists(), 'was too late to kill'
    resumed, _ = train(make(work_dir=str(tmp_path / 'parts'), resume=True))
    assert_same_end(resumed, whole)


def test_seeds_do_not_depend_on_random_state_nor_disturb_it():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with seeded(5, 8):
        inside = random.random(), np.random.rand(), torch.rand(1).item()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    random.seed(9)
    with seeded(5, 8):
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == inside
    with seeded(5, 9):
        assert random.random() != inside[0]
