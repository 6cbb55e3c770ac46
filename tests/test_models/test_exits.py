"""``PerExit`` in whole segmentors and detectors: each exit has its head, and anchors stay finished models."""

import copy
import json
import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from toy_exact import anchor_config, finished, make_exact
from toys import randomise

from mmsnnet.building import build_model
from mmsnnet.errors import UserError
from mmsnnet.export import slim_config, slim_state_dict
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.models.blank_batch import blank_batch
from mmsnnet.models.exits import ExitMaps
from mmsnnet.models.flop_counter import model_cost
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import Exit

SWITCHED = 'l[0:2]-s[1:2]'


@pytest.fixture(params=['segmentation', 'segmentation with auxiliary heads', 'detection'])
def job(request, make_config, make_detection_config):
    """A stitched toy job."""
    if request.param == 'detection':
        return make_detection_config()
    cfg = make_config()
    if request.param != 'segmentation':
        cfg.model.auxiliary_head = ConfigDict(cfg.model.decode_head, in_index=0)
    return cfg


def images_of(job) -> torch.Tensor:
    size = (64, 64) if 'roi_head' in job.model else (32, 48)
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def build(cfg) -> torch.nn.Module:
    return randomise(build_model(copy.deepcopy(cfg))).eval()


def flat(outputs) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for item in outputs for tensor in flat(item)]


def same(first, second) -> bool:
    pairs = list(zip(flat(first), flat(second), strict=True))
    return bool(pairs) and all(torch.equal(*pair) for pair in pairs)


def losses(model, batch) -> dict[str, float]:
    return {name: [float(value) for value in flat(loss)] for name, loss in model(*batch, mode='loss').items()}


def train_steps(model, images, routes) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    model.train()
    for route in routes:
        find_backbone(model).set_route(route)
        batch = blank_batch(model, 2, tuple(images.shape[2:]), 'cpu', boxes_per_side=2)
        optimizer.zero_grad()
        loss, _ = model.parse_losses(model(images, batch[1], mode='loss'))
        loss.backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize('way', ['adapters', 'copies'])
def test_an_anchor_s_route_is_its_finished_model_after_training_too(job, way):
    cfg = make_exact(job, way)
    model, images = build(cfg), images_of(job)
    alone = [finished(job, model, index) for index in range(2)]
    backbone = find_backbone(model)
    with torch.no_grad():
        expected = [task_of(anchor).outputs(images) for anchor in alone]
    train_steps(model, images, [route for route in backbone.space if route.kind != 'anchor'])
    for index in range(2):
        backbone.set_route(index)
        with torch.no_grad():
            assert same(task_of(model).outputs(images), expected[index])
        batch = images, blank_batch(model, 2, tuple(images.shape[2:]), 'cpu', boxes_per_side=2)[1]
        torch.manual_seed(0)
        mine = losses(model, batch)
        torch.manual_seed(0)
        assert mine == losses(alone[index], batch)


def test_routes_with_a_switch_learn(job):
    cfg = make_exact(job)
    model, images = build(cfg), images_of(job)
    backbone = find_backbone(model)
    backbone.set_route(SWITCHED)
    with torch.no_grad():
        before = task_of(model).outputs(images)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all('.anchors.' not in name for name in trained)
    train_steps(model, images, [SWITCHED])
    backbone.set_route(SWITCHED)
    with torch.no_grad():
        assert not same(task_of(model).outputs(images), before)


def test_own_exits_train_jointly_without_exactness(job):
    cfg = make_exact(job, None)
    model, images = build(cfg), images_of(job)
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if '.weight' in name[-7:] and
               not name.startswith(('backbone.up', 'backbone.down')))  # fmt: skip
    train_steps(model, images, find_backbone(model).space)


def test_a_slim_model_holds_one_head_and_equals_the_supernet(job):
    cfg = make_exact(job, 'adapters', own_tunings=[SWITCHED])
    model, images = build(cfg), images_of(job)
    backbone = find_backbone(model)
    for route in backbone.space:
        backbone.set_route(route)
        slim = build_model(slim_config(cfg, route)).eval()
        slim.load_state_dict(slim_state_dict(model, route))
        with torch.no_grad():
            expected, outputs = flat(task_of(model).outputs(images)), flat(task_of(slim).outputs(images))
        for mine, its in zip(outputs, expected, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-4)
        assert 'PerExit' not in json.dumps(slim_config(cfg, route).model.to_dict(), default=str)


def test_costs_are_those_of_the_slim_model(job):
    """Law 4, with the head of the exit."""
    cfg = make_exact(job)
    cfg.model.backbone.lora_rank = 0
    model, shape = build(cfg), tuple(images_of(job).shape[2:])
    costs = route_costs(model, shape)
    for route in find_backbone(model).space:
        slim = build_model(slim_config(cfg, route))
        assert costs[route.id] == model_cost(slim, shape), route


def test_copies_of_heads_start_from_the_finished_ones(job, tmp_path):
    cfg = make_exact(job, 'adapters', own_tunings=[SWITCHED])
    name = 'roi_head' if 'roi_head' in job.model else 'decode_head'
    for index in range(2):
        alone = build(anchor_config(job, index))
        torch.save({'state_dict': alone.state_dict()}, tmp_path / f'{index}.pth')
        cfg.model[name].heads[index].init_cfg = dict(
            type='Pretrained', checkpoint=str(tmp_path / f'{index}.pth'), prefix=f'{name}.'
        )
    model = build_model(cfg)
    model.init_weights()
    per_exit = getattr(model, name)
    for key, anchor in (('0', 0), ('1', 1), (SWITCHED, 0)):
        weights = torch.load(tmp_path / f'{anchor}.pth')['state_dict']
        for parameter, value in per_exit.tuned[key].state_dict().items():
            assert torch.equal(value, weights[f'{name}.{parameter}'])
            assert torch.equal(value, per_exit.anchors[anchor].state_dict()[parameter])


def test_running_statistics_of_finished_heads_stay(make_config):
    job = make_config()
    job.model.decode_head.norm_cfg = dict(type='BN')
    model, images = build(make_exact(job)), images_of(job)
    buffers = {name: value.clone() for name, value in model.named_buffers() if 'running' in name}
    train_steps(model, images, [SWITCHED])
    after = dict(model.named_buffers())
    changed = {name for name, value in buffers.items() if not torch.equal(value, after[name])}
    assert changed
    assert all(name.startswith('decode_head.tuned.0.') for name in changed)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(heads=[]), 'PerExit needs a head for each anchor, got none'),
        (dict(own_tunings=['l[0:2]-s[1:2]'], exact=False), 'need exact=True'),
        (dict(own_tunings=['x[0:2]-y[1:2]']), 'names no route between 2 anchors'),
    ],
)
def test_refuses_bad_settings(make_config, changes, message):
    cfg = make_exact(make_config())
    cfg.model.decode_head.update(changes)
    with pytest.raises(UserError, match=message):
        build_model(cfg)


def test_refuses_heads_of_unequal_classes(make_config):
    cfg = make_exact(make_config())
    cfg.model.decode_head.heads[1].num_classes = 5
    with pytest.raises(UserError, match=r'heads of a PerExit must have one num_classes, got \[3, 5\]'):
        build_model(cfg)


def test_refuses_maps_without_an_exit(make_config):
    cfg = make_exact(make_config())
    cfg.model.backbone.update(exits='shared', exact=None)
    with pytest.raises(UserError, match="set exits='own' in the backbone"):
        task_of(build(cfg)).outputs(images_of(cfg))


def test_refuses_an_exit_without_a_head(make_config):
    cfg = make_exact(make_config())
    cfg.model.backbone.own_tunings = [SWITCHED]
    model = build(cfg)
    find_backbone(model).set_route(SWITCHED)
    with pytest.raises(UserError, match=r"no head for exit .* 'exact' and 'own_tunings' must be the backbone's"):
        task_of(model).outputs(images_of(cfg))


def test_maps_keep_their_exit_when_copied():
    maps = ExitMaps([torch.ones(1, 2, 3, 4)], Exit(1, 'shared'))
    for copied in (copy.copy(maps), copy.deepcopy(maps), pickle.loads(pickle.dumps(maps))):
        assert copied.exit == maps.exit
        assert torch.equal(copied[0], maps[0])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda head: head.update(own_tunings=[2]), r'own_tunings of a PerExit must be names of routes .*, got \[2\]'),
        (lambda head: head.heads[0].update(threshold=0.4), r'one threshold, got \[0\.4, 0\.3\]'),
    ],
)
def test_refuses_ids_and_unequal_thresholds(make_config, change, message):
    cfg = make_exact(make_config())
    for head in cfg.model.decode_head.heads:
        head.update(out_channels=1, num_classes=2, threshold=0.3)
    change(cfg.model.decode_head)
    with pytest.raises(UserError, match=message):
        build_model(cfg)
