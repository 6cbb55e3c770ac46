"""Law 11 in runs: anchors and their heads stay finished models while routes with a switch train."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from toy_exact import finished, make_exact, with_weights
from toys import randomise

from mmsnnet.building import build_model
from mmsnnet.errors import UserError
from mmsnnet.models import find_backbone

OWN = 'l[0:2]-s[1:2]'


@pytest.fixture(params=['segmentation', 'detection'])
def make_job(request, make_config, make_detection_config):
    return make_config if request.param == 'segmentation' else make_detection_config


@pytest.fixture
def start_from(tmp_path):
    """Lets a config start from weights that are random, but finished."""

    def start(cfg):
        path = tmp_path / 'finished.pth'
        if not path.exists():
            torch.save({'state_dict': randomise(build_model(cfg.copy())).state_dict()}, path)
        cfg.load_from = str(path)
        return cfg

    return start


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def anchors_of(weights: dict) -> dict:
    return {name: value for name, value in weights.items() if '.anchors.' in name}


@pytest.mark.parametrize('way', ['adapters', 'copies'])
def test_training_leaves_anchors_and_their_heads_as_they_were(make_job, start_from, way):
    cfg = start_from(make_exact(make_job(), way))
    before = torch.load(cfg.load_from)['state_dict']
    after = train(cfg).model.state_dict()
    assert before.keys() == after.keys()
    kept = anchors_of(before)
    assert any(name.startswith('backbone') for name in kept)
    assert any('head' in name for name in kept)
    for name, value in kept.items():
        assert torch.equal(after[name], value), name
    assert any(not torch.equal(after[name], value) for name, value in before.items() if '.tunings.' in name)


def test_anchors_score_what_their_finished_models_score(make_job, start_from):
    """After training, evaluated in one pass with all other routes, and each alone by MMEngine's own loop."""
    from toy_exact import anchor_config

    job = make_job()
    cfg = start_from(make_exact(job))
    runner = train(cfg)
    metrics = runner.test()
    for index in range(2):
        alone_cfg = anchor_config(job, index)
        alone = finished(job, runner.model, index)
        torch.save({'state_dict': alone.state_dict()}, f'{cfg.work_dir}/alone.pth')
        alone_cfg.load_from = f'{cfg.work_dir}/alone.pth'
        alone_cfg.experiment_name = f'alone{index}'
        expected = Runner.from_cfg(alone_cfg).test()
        route = find_backbone(runner.model).space[index]
        assert expected
        for name, value in expected.items():
            assert metrics[f'{route.log_name}/{name}'] == value


def test_a_resumed_run_ends_like_one_that_never_stopped(make_job, start_from):
    cfg = start_from(make_exact(make_job()))
    cfg.train_cfg.max_iters = 4
    cfg.default_hooks.checkpoint.interval = 2
    whole = train(cfg)
    resumed = cfg.copy()
    resumed.load_from, resumed.resume = f'{whole.work_dir}/iter_2.pth', True
    resumed.experiment_name = 'resumed'
    weights = train(resumed).model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_a_resumed_run_with_another_list_keeps_what_is_trained(make_config, start_from):
    other = 's[0:1]-l[2:4]'
    cfg = start_from(make_exact(make_config(), own_tunings=[OWN, other]))
    cfg.custom_hooks[0].focus = [OWN]
    cfg.train_cfg.max_iters = 2
    first = train(cfg)
    cfg.custom_hooks[0].focus = [other]
    cfg.train_cfg.max_iters = 4
    cfg.load_from, cfg.resume = f'{first.work_dir}/iter_2.pth', True
    trained = find_backbone(train(cfg).model).trained_routes
    assert trained == {find_backbone(first.model).space.find(route).id for route in ('s[0:2]', 'l[0:4]', OWN, other)}


def test_the_optimizer_keeps_nothing_for_what_is_frozen(make_config, start_from):
    runner = train(start_from(make_exact(make_config())))
    kept = {id(parameter) for parameter in runner.optim_wrapper.optimizer.state}
    for name, parameter in runner.model.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in kept, name
            assert parameter.grad is None


def test_training_one_route_s_own_tuning_changes_nothing_else(make_config, start_from):
    cfg = start_from(make_exact(make_config(), own_tunings=[OWN]))
    cfg.custom_hooks[0].focus = [OWN]
    cfg.custom_hooks[0].init_images = 0
    before = torch.load(cfg.load_from)['state_dict']
    after = train(cfg).model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(after[name], value)}
    assert changed
    assert all(OWN in name for name in changed)


def test_refuses_finished_anchors_without_weights(make_config):
    with pytest.raises(
        UserError, match=r"backbone.anchors.0 stays as it is \(exact='adapters'\), but nothing loads its"
    ):
        train(make_exact(make_config()))


def test_refuses_finished_heads_without_weights(make_config, tmp_path):
    cfg = with_weights(make_exact(make_config()), tmp_path)
    cfg.model.decode_head.heads[1].pop('init_cfg')
    with pytest.raises(UserError, match=r'decode_head\.anchors\.1 stays as it is .* nothing loads its weights'):
        train(cfg)
    weights = torch.load(tmp_path / 'anchors.pth')
    torch.save({name: value for name, value in weights.items() if 'decode' in name}, tmp_path / 'heads.pth')
    cfg.load_from = str(tmp_path / 'heads.pth')
    train(cfg)
    # A checkpoint of heads brings no anchor.
    cfg.model.backbone.anchors[0].pop('init_cfg')
    with pytest.raises(UserError, match=r'backbone\.anchors\.0 stays as it is'):
        train(cfg)


def test_refuses_finished_heads_of_other_classes(make_config, tmp_path):
    """MMEngine leaves out what does not fit, so that a head would stay random for ever."""
    cfg = with_weights(make_exact(make_config()), tmp_path)
    weights = torch.load(tmp_path / 'anchors.pth')
    cut = {name: value[:2] if '.anchors.1.conv_seg' in name else value for name, value in weights.items()}
    torch.save(cut, tmp_path / 'two_classes.pth')
    cfg.load_from = str(tmp_path / 'two_classes.pth')
    train(cfg)
    cfg.model.decode_head.heads[1].pop('init_cfg')
    with pytest.raises(UserError, match=r'decode_head\.anchors\.1 stays .* has shape \(2,.*, the model wants \(3,'):
        train(cfg)


def test_a_model_may_be_loaded_as_a_whole(make_config, tmp_path):
    """As those with lists of heads are, which MMSegmentation does not initialise."""
    cfg = with_weights(make_exact(make_config(), own_tunings=[OWN]), tmp_path)
    path = tmp_path / 'whole.pth'
    cfg.model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    weights = torch.load(tmp_path / 'anchors.pth')
    torch.save(weights, path)
    train(cfg)
    torch.save({name: value for name, value in weights.items() if f'head.tuned.{OWN}' not in name}, path)
    with pytest.raises(UserError, match=r'does not bring all of decode_head \(.* keys are missing'):
        train(cfg)
    torch.save({name: value for name, value in weights.items() if 'anchors.1' not in name}, path)
    with pytest.raises(UserError, match=r'backbone\.anchors\.1 stays as it is'):
        train(cfg)
    torch.save({'state_dict': weights, 'trained_routes': ['l[0:4]', OWN]}, path)
    with pytest.raises(UserError, match=r'has trained routes: .* set load_from to it'):
        train(cfg)


def test_refuses_weights_that_would_not_bring_what_routes_have_learnt(make_config, tmp_path):
    cfg = make_exact(make_config(), 'copies')
    torch.save(build_model(cfg.copy()).state_dict(), tmp_path / 'learnt.pth')
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'learnt.pth'), prefix='backbone.')
    with pytest.raises(UserError, match=r'backbone is exact: .* set load_from=PATH instead'):
        train(cfg)


def test_refuses_a_head_that_anchors_and_trained_routes_share(make_detection_config, tmp_path):
    cfg = with_weights(make_exact(make_detection_config()), tmp_path)
    cfg.model.roi_head = make_detection_config().model.roi_head
    with pytest.raises(UserError, match=r"roi_head\..* serves all routes and trains, .* make 'roi_head' a PerExit"):
        train(cfg)


def test_averages_leave_anchors_as_they_are_or_are_refused(make_config, tmp_path):
    import mmdet.models  # noqa: F401, which registers an average

    cfg = with_weights(make_exact(make_config()), tmp_path)
    hook = dict(type='EMAHook')
    cfg.custom_hooks.append(hook)
    runner = train(cfg)
    before, after = (torch.load(path) for path in (tmp_path / 'anchors.pth', Path(runner.work_dir, 'iter_4.pth')))
    for name, value in anchors_of(before).items():
        assert torch.equal(after['state_dict'][name], value), name
    hook.update(ema_type='mmdet.ExpMomentumEMA')
    with pytest.raises(UserError, match='ExpMomentumEMA averages finished anchors too'):
        train(cfg)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda model: model.decode_head.heads.append(model.decode_head.heads[1]), 'has 3 heads, but .* has 2 anchors'),
        (lambda model: model.backbone.update(exact=None), 'decode_head has exact=True'),
        (lambda model: model.decode_head.heads[0].update(in_channels=16), 'set in_channels to 8'),
        (lambda model: model.__setitem__('decode_head', model.decode_head.heads[1]), 'make it a PerExit'),
        (lambda model: model.backbone.update(own_tunings=[OWN]), 'decode_head: no head for exit'),
        (lambda model: model.backbone.update(exact=None, exits='shared'), 'decode_head is a PerExit, but exits are'),
    ],
)
def test_refuses_heads_that_do_not_serve_the_exits(make_config, change, message):
    cfg = make_exact(make_config())
    change(cfg.model)
    with pytest.raises(UserError, match=message):
        train(cfg)
