import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsnnet.engine import StitchSamplingHook, finite_loss, least_squares_start
from mmsnnet.errors import UserError
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.stitching import Record, ResourceConstrainedSampler, StitchSpace, write_records


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def logged(runner: Runner) -> list[dict]:
    (file,) = Path(runner.log_dir).glob('vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if 'route' in line]


def weights(runner: Runner) -> dict:
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def test_logs_the_sampler_s_route_and_its_gflops_each_iteration(make_config):
    runner = train(make_config())
    costs = route_costs(runner.model, (32, 48))
    sampler = ResourceConstrainedSampler(costs.gflops, step_gflops=1e-4, seed=7)
    lines = logged(runner)
    assert [line['route'] for line in lines] == [sampler(iteration) for iteration in range(4)]
    assert [line['route_gflops'] for line in lines] == pytest.approx([costs[line['route']].gflops for line in lines])


def test_least_squares_start_changes_stitching_layers_only(make_config):
    no_training = {'optim_wrapper.optimizer.lr': 0.0}
    runner = train(make_config(log_level='INFO', **no_training))
    solved = weights(runner)
    random_start = weights(train(make_config(**no_training, **{'custom_hooks.0.init_images': 0})))
    changed = {key for key in solved if not torch.equal(solved[key], random_start[key])}
    layers = {f'backbone.{name}.{key}' for name in ('up.0.1', 'up.0.2', 'down.0.1') for key in ('weight', 'bias')}
    assert changed == layers
    assert re.search(r'stitching layers explain: up.0.1 [\d.]+%, down.0.1 [\d.]+%, up.0.2 [\d.]+%', log_of(runner))


def test_writes_what_stitching_layers_explain(make_config, tmp_path):
    runner = train(make_config(log_level='INFO', **{'custom_hooks.0.init_images': 50}))
    (written,) = tmp_path.rglob('stitching_layers.json')
    assert written.parent == Path(runner.log_dir)
    content = json.loads(written.read_text())
    # There are no more images than ten.
    assert content['images'] == 10
    assert list(content['explained_variance']) == ['up.0.1', 'down.0.1', 'up.0.2']
    for name, share in content['explained_variance'].items():
        assert 0 < share <= 1
        assert f'{name} {share:.1%}' in log_of(runner)


def test_only_the_main_rank_writes_what_stitching_layers_explain(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr(least_squares_start, 'is_main_process', lambda: False)
    train(make_config())
    assert not list(tmp_path.rglob('stitching_layers.json'))


def test_writes_nothing_of_layers_that_it_has_not_solved(make_config, tmp_path):
    runner = train(make_config(**{'custom_hooks.0.init_images': 0}))
    train(make_config(load_from=f'{runner.work_dir}/iter_4.pth'))
    assert not list(tmp_path.rglob('stitching_layers.json'))


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_least_squares_start_knows_image_from_padding(make_config, make_detection_config, monkeypatch, task):
    cfg = make_config() if task == 'segmentation' else make_detection_config()
    if task == 'segmentation':
        cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='RandomCrop', crop_size=(20, 36)))
    batches = []
    monkeypatch.setattr(least_squares_start, 'solve_stitching_layers', lambda _, images: batches.extend(images) or {})
    train(cfg)
    assert len(batches) == 3
    for images, is_image in batches:
        assert not is_image.all()
        # What is padded is zero in all channels, and no noisy pixel is.
        assert torch.equal(is_image, (images != 0).any(dim=1))


def test_stitching_layers_of_a_checkpoint_to_start_from_are_kept(make_config, tmp_path):
    first = train(make_config())
    second = train(
        make_config(
            work_dir=str(tmp_path / 'second'),
            load_from=f'{first.work_dir}/iter_4.pth',
            **{'optim_wrapper.optimizer.lr': 0.0, 'custom_hooks.0.init_images': 1},
        )
    )
    for key, value in weights(first).items():
        assert torch.equal(value, weights(second)[key]), key


def test_checkpoints_hold_plain_types_and_tensors_only(make_config):
    runner = train(make_config())
    for file in Path(runner.work_dir).glob('*.pth'):
        assert torch.load(file, weights_only=True)['state_dict']


def test_a_loop_that_sets_no_route_evaluates_the_largest_anchor(make_config):
    cfg = make_config(val_cfg=dict(type='ValLoop', _delete_=True), **{'train_cfg.val_interval': 4})
    cfg.val_cfg = dict(type='ValLoop')
    runner = train(cfg)
    assert find_backbone(runner.model).route.name == 'l[0:4]'


def test_refuses_a_class_count_that_does_not_match_the_head(make_config):
    with pytest.raises(ValueError, match='num_classes=5, but the data set has 3 classes'):
        train(make_config(**{'model.decode_head.num_classes': 5}))


@pytest.mark.parametrize('change', [{'embed_dim': 24}, {'depth': 5}])
def test_refuses_a_checkpoint_of_another_architecture(make_config, tmp_path, change):
    train(make_config())
    changed = {f'model.backbone.anchors.1.{key}': value for key, value in change.items()}
    cfg = make_config(load_from=str(tmp_path / 'work_dir' / 'iter_4.pth'), **changed)
    cfg.model.decode_head.in_channels = cfg.model.backbone.anchors[1].embed_dim
    with pytest.raises(ValueError, match=r'another architecture than this StitchedViT: .*(shape|missing)'):
        Runner.from_cfg(cfg).test()


def test_refuses_a_model_without_stitches(make_config):
    cfg = make_config()
    cfg.model.backbone = dict(type='AnchorViT', anchor=cfg.model.backbone.anchors[1], out_indices=(1, 3))
    cfg.val_cfg = dict(type='ValLoop')
    with pytest.raises(ValueError, match='0 StitchedViT backbones'):
        train(cfg)


def test_anchors_trained_alone_are_where_a_stitched_model_starts(make_config, tmp_path):
    alone = make_config(custom_hooks=[], work_dir=str(tmp_path / 'alone'))
    alone.model.backbone = dict(type='AnchorViT', anchor=alone.model.backbone.anchors[1], out_indices=(1, 3))
    alone.val_cfg = dict(type='ValLoop')
    trained = weights(train(alone))
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'alone' / 'iter_4.pth'), prefix='backbone.anchors.0.')
    cfg = make_config(**{'optim_wrapper.optimizer.lr': 0.0})
    cfg.model.backbone.anchors[1].init_cfg = init_cfg
    stitched = weights(train(cfg))
    for key, value in trained.items():
        if key.startswith('backbone.'):
            assert torch.equal(value, stitched[key.replace('anchors.0.', 'anchors.1.')]), key

    cfg.model.backbone.anchors[0].init_cfg = init_cfg
    with pytest.raises(ValueError, match=r'does not fit anchor .* has shape \(16'):
        train(cfg)
    cfg.model.backbone.anchors[0].init_cfg = dict(init_cfg, checkpoint='missing.pth')
    with pytest.raises(FileNotFoundError, match=r'missing\.pth'):
        train(cfg)


def log_of(runner: Runner) -> str:
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def test_warns_of_cost_groups_that_are_none(make_config):
    assert 'into one group' not in log_of(train(make_config()))
    assert 'step_gflops=10 puts all 4 routes' in log_of(
        train(make_config(**{'custom_hooks.0.sampler.step_gflops': 10}))
    )


def test_warns_of_training_without_the_hook(make_config):
    assert 'no StitchSamplingHook' not in log_of(train(make_config()))
    assert 'no StitchSamplingHook: only the largest anchor trains' in log_of(train(make_config(custom_hooks=[])))


class SpoiledLoss(Hook):
    """Makes the loss of some iterations NaN."""

    def __init__(self, iterations: Sequence[int]) -> None:
        self.iterations = iterations

    def before_train_iter(self, runner: Runner, *_, **__) -> None:
        weight = float('nan') if runner.iter + 1 in self.iterations else 1.0
        runner.model.decode_head.loss_decode.loss_weight = weight


def train_spoiled(cfg, *iterations: int) -> Runner:
    cfg.default_hooks.checkpoint.interval = 1
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.0)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SpoiledLoss(iterations))
    runner.train()
    return runner


def saved(tmp_path: Path, iteration: int) -> dict:
    return torch.load(tmp_path / 'work_dir' / f'iter_{iteration}.pth', weights_only=True)['state_dict']


def test_stops_at_a_loss_that_is_not_finite_before_it_reaches_the_weights(make_config, tmp_path, monkeypatch):
    runners = []
    monkeypatch.setattr(SpoiledLoss, 'before_run', lambda self, runner: runners.append(runner))
    with pytest.raises(UserError, match=r'not finite at iteration 3, route [sl]\[.*clip_grad'):
        train_spoiled(make_config(), 3)
    for key, value in saved(tmp_path, 2).items():
        assert torch.equal(runners[0].model.state_dict()[key], value), key


@pytest.mark.parametrize(('accumulated', 'before', 'after'), [(1, 2, 3), (2, 2, 4)])
def test_skips_a_step_whose_loss_is_not_finite(make_config, tmp_path, accumulated, before, after):
    changes = {'train_cfg.max_iters': 6, 'optim_wrapper.accumulative_counts': accumulated}
    runner = train_spoiled(make_config(**changes, **{'custom_hooks.0.on_nonfinite_loss': 'skip'}), 3)
    for key, value in saved(tmp_path, after).items():
        assert torch.equal(value, saved(tmp_path, before)[key]), key
    assert 'not finite at iteration' in log_of(runner)
    end = saved(tmp_path, 6)
    assert all(value.isfinite().all() for value in end.values())
    assert any(not torch.equal(value, end[key]) for key, value in saved(tmp_path, after).items())


def with_amp(cfg, **settings):
    cfg.optim_wrapper.update(type='AmpOptimWrapper', **settings)
    cfg.train_cfg.max_iters = 8
    return cfg


def test_stops_where_lowering_the_loss_scale_does_not_help(make_config, tmp_path, monkeypatch, amp_on_cpu):
    monkeypatch.setattr(finite_loss, 'TOLERATED_STEPS', 2)
    with pytest.raises(UserError, match=r'not finite at iteration 7, .* 3 optimizer steps in a row'):
        train_spoiled(with_amp(make_config()), 2, 3, 5, 6, 7)
    for key, value in saved(tmp_path, 1).items():
        assert torch.equal(saved(tmp_path, 3)[key], value), key
    assert any(not torch.equal(value, saved(tmp_path, 4)[key]) for key, value in saved(tmp_path, 3).items())
    scales = [loss_scale(tmp_path, iteration) for iteration in (1, 3, 6)]
    assert scales == [2**16, 2**14, 2**12]


def loss_scale(tmp_path: Path, iteration: int) -> float:
    state = torch.load(tmp_path / 'work_dir' / f'iter_{iteration}.pth', weights_only=True)
    return state['optimizer']['loss_scaler']['scale']


@pytest.mark.parametrize('settings', [{'dtype': 'bfloat16'}, {'loss_scale': 512.0}])
def test_tolerates_nothing_without_a_loss_scale_that_falls(make_config, amp_on_cpu, settings):
    with pytest.raises(UserError, match='not finite at iteration 2'):
        train_spoiled(with_amp(make_config(), **settings), 2)


def test_does_not_go_on_with_running_statistics_that_are_not_finite(make_config):
    cfg = make_config(
        **{'custom_hooks.0.on_nonfinite_loss': 'skip', 'model.decode_head.norm_cfg': dict(type='BN', _delete_=True)}
    )

    class SpoiledWeights(Hook):
        def before_train_iter(self, runner: Runner, *_, **__) -> None:
            with torch.no_grad():
                runner.model.backbone.anchors[1].blocks[3].mlp.fc2.bias.fill_(float('nan'))

    cfg.custom_hooks[0].sampler = dict(type='SandwichSampler')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(SpoiledWeights())
    with pytest.raises(UserError, match=r'neither is decode_head\.convs\.0\.bn\.running_mean: resume'):
        runner.train()


@pytest.mark.parametrize(('draw_per', 'sampled'), [('step', [0, 0, 1, 1, 2, 2]), ('batch', [0, 1, 2, 3, 4, 5])])
def test_accumulated_gradients_are_of_one_route_or_of_one_each_batch(make_config, draw_per, sampled):
    changes = {'train_cfg.max_iters': 6, 'optim_wrapper.accumulative_counts': 2, 'custom_hooks.0.draw_per': draw_per}
    runner = train(make_config(**changes))
    sampler = ResourceConstrainedSampler(route_costs(runner.model, (32, 48)).gflops, step_gflops=1e-4, seed=7)
    assert [line['route'] for line in logged(runner)] == [sampler(draw) for draw in sampled]


def test_refuses_words_it_does_not_know():
    with pytest.raises(ValueError, match="draw_per must be one of 'step', 'batch', got 'epoch'"):
        StitchSamplingHook(draw_per='epoch')
    with pytest.raises(ValueError, match="on_nonfinite_loss must be one of 'stop', 'skip', got 'ignore'"):
        StitchSamplingHook(on_nonfinite_loss='ignore')


def test_samples_by_measured_latency(make_config, tmp_path):
    costs = route_costs(Runner.from_cfg(make_config()).model, (32, 48))
    space = StitchSpace((2, 4))
    times = (1.0, 9.0, 1.5, 9.5)
    records = [replace(Record.of(route, costs[route.id]), latency_ms=times[route.id]) for route in space]
    write_records(records, tmp_path / 'stitches.json')
    sampler = dict(type='CostIntervalSampler', records=str(tmp_path / 'stitches.json'), num_intervals=2, _delete_=True)
    cfg = make_config(**{'custom_hooks.0.sampler': sampler})
    assert {line['route'] for line in logged(train(cfg))} <= {0, 1, 2, 3}

    write_records([Record.of(StitchSpace((3, 4))[2], costs[2])], tmp_path / 'stitches.json')
    with pytest.raises(ValueError, match='not of this space'):
        train(cfg)
