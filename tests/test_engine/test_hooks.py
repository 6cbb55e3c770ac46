import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from mmsnnet.engine.hooks import _seeded
from mmsnnet.models import find_backbone, measure_costs
from mmsnnet.stitching import ResourceConstrainedSampler


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
    costs = measure_costs(runner.model, (32, 48))
    sampler = ResourceConstrainedSampler(costs.gflops, step_gflops=1e-4, seed=7)
    lines = logged(runner)
    assert [line['route'] for line in lines] == [sampler(iteration) for iteration in range(4)]
    assert [line['route_gflops'] for line in lines] == pytest.approx([costs[line['route']].gflops for line in lines])


def test_least_squares_start_changes_stitching_layers_only(make_config):
    no_training = {'optim_wrapper.optimizer.lr': 0.0}
    solved = weights(train(make_config(**no_training)))
    random_start = weights(train(make_config(**no_training, **{'custom_hooks.0.init_images': 0})))
    changed = {key for key in solved if not torch.equal(solved[key], random_start[key])}
    layers = {f'backbone.{name}.{key}' for name in ('up.0.1', 'up.0.2', 'down.0.1') for key in ('weight', 'bias')}
    assert changed == layers


def test_least_squares_start_does_not_depend_on_random_state_nor_disturb_it():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with _seeded(5, 8):
        inside = random.random(), np.random.rand(), torch.rand(1).item()
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    random.seed(9)
    with _seeded(5, 8):
        assert (random.random(), np.random.rand(), torch.rand(1).item()) == inside
    with _seeded(5, 9):
        assert random.random() != inside[0]


def test_resumed_run_equals_an_uninterrupted_one(make_config, tmp_path):
    whole = train(make_config(work_dir=str(tmp_path / 'whole')))
    train(make_config(work_dir=str(tmp_path / 'parts'), **{'train_cfg.max_iters': 2}))
    resumed = train(make_config(work_dir=str(tmp_path / 'parts'), resume=True))
    # Two runs of one second share a log folder: the resumed one's lines come last.
    assert [line['route'] for line in logged(resumed)[-2:]] == [line['route'] for line in logged(whole)[2:]]
    frozen = [key for key in weights(whole) if key.endswith(('up.0.1.weight', 'down.0.1.weight'))]
    assert frozen
    for key in frozen:
        assert torch.equal(weights(whole)[key], weights(resumed)[key]), key


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


def test_tells_of_cost_groups_that_are_none(make_config):
    assert 'into one group' not in log_of(train(make_config()))
    assert 'step_gflops=10 puts all 4 stitches' in log_of(
        train(make_config(**{'custom_hooks.0.sampler.step_gflops': 10}))
    )


def test_tells_of_training_without_the_hook(make_config):
    assert 'no StitchSamplingHook' not in log_of(train(make_config()))
    assert 'no StitchSamplingHook: only the largest anchor trains' in log_of(train(make_config(custom_hooks=[])))
