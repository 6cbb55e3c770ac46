"""Configs of depth fit their data, cost what was published, and follow the published schedule."""

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import OptimWrapper, _ParamScheduler, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, TRANSFORMS, init_default_scope

from mmsnnet.building import build_model
from mmsnnet.depth import DPTDepthHead
from mmsnnet.engine import configured_input_shape, configured_setting
from mmsnnet.engine.exit_checks import wanted_channels
from mmsnnet.models import PerExit, model_cost, route_costs
from mmsnnet.models.flop_counter import count_flops
from mmsnnet.stitching.plan import tapped_block

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT.parent / 'shared' / 'golden'
NYU = sorted(ROOT.glob('configs/nyu/*.py'))
ROOMS = sorted(ROOT.glob('configs/rooms/*.py'))
S_L = ROOT / 'configs/nyu/stitched-deit3-s-l_dpt_8xb2-24e_nyu-416x544.py'


def built(path: Path) -> torch.nn.Module:
    """A config's model, of shapes alone."""
    with torch.device('meta'), warnings.catch_warnings(action='ignore'):
        return build_model(Config.fromfile(path))


def blank(path: Path) -> torch.nn.Module:
    """A config's model, of zeros: costs do not depend on weights, and drawing random ones takes long."""
    model = built(path).to_empty(device='cpu')
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return model


@pytest.mark.parametrize('path', [*NYU, *ROOMS], ids=lambda path: path.stem)
def test_heads_fit_and_levels_are_where_the_published_ones_are(path):
    cfg, model = Config.fromfile(path), built(path)
    backbone, head = model.backbone, model.decode_head
    heads = list(head.anchors) if isinstance(head, PerExit) else [head]
    for index, each in enumerate(reversed(heads)):
        assert wanted_channels(each, backbone.level_channels(len(backbone.anchors) - 1 - index)) is None
        assert (each.min_depth, each.max_depth) == (1e-3, 10)
    assert (cfg.val_evaluator.min_depth_eval, cfg.val_evaluator.max_depth_eval) == (1e-3, 10)
    assert tuple(model.data_preprocessor.size) == tuple(cfg.crop_size)
    if 'dpt' in path.name:
        assert backbone.output_cls_token
        last = backbone.anchors[-1].depth
        assert backbone.out_indices == {6: (1, 2, 4, 5), 12: (2, 5, 8, 11), 24: (4, 11, 17, 23)}[last]
        if len(backbone.anchors) == 2:
            small = {6: (1, 2, 4, 5), 12: (2, 5, 8, 11)}[backbone.anchors[0].depth]
            assert tuple(tapped_block(backbone.space, 0, block) for block in backbone.out_indices) == small


@pytest.mark.parametrize('path', NYU, ids=lambda path: path.stem)
def test_nyu_trains_on_crops_and_is_costed_and_tested_as_a_whole(path, tmp_path):
    cfg, model = Config.fromfile(path), built(path)
    assert configured_input_shape(model, cfg) == (480, 640)
    assert configured_setting(model, cfg).input_shape == (416, 544)
    assert model.test_cfg.mode == 'slide_flip'
    assert tuple(model.test_cfg.crop_size) == tuple(model.test_cfg.stride) == (480, 640)
    assert cfg.val_evaluator.crop_type == 'nyu_crop'
    best = cfg.default_hooks.checkpoint
    # Main routes of exact models never change.
    assert (best.save_best, best.rule) == (None if 'exact' in path.name else 'rmse', 'less')
    files = {'img_path': f'{tmp_path}/a.jpg', 'depth_map_path': f'{tmp_path}/a.png'}
    generator = np.random.default_rng(0)
    assert cv2.imwrite(files['img_path'], generator.integers(256, size=(480, 640, 3), dtype=np.uint8))
    assert cv2.imwrite(files['depth_map_path'], generator.integers(500, 9999, size=(480, 640), dtype=np.uint16))
    init_default_scope('mmseg')
    for loader, size in ((cfg.train_dataloader, (416, 544)), (cfg.test_dataloader, (480, 640))):
        steps = Compose([TRANSFORMS.build(step) for step in loader.dataset.pipeline])
        sample = steps({**files, 'seg_fields': []})
        assert sample['inputs'].shape == (3, *size)
        depth = sample['data_samples'].gt_depth_map.data
        assert depth.shape == (1, *size)
        # Metres; 0, where rotation has none.
        assert depth.min() >= 0
        assert 9 < depth.max() < 10


def head_flops(head: DPTDepthHead) -> int:
    """At 480x640, from a grid of 2x2 patches: each costs as much, and at full size the head takes long to run."""
    width = head.in_channels[0]
    maps, tokens = [torch.zeros(1, width, 2, 2)] * 4, [torch.zeros(1, width)] * 4
    flops = count_flops(lambda *parts: head(list(zip(parts[:4], parts[4:], strict=True))), head, *maps, *tokens)
    return flops * (30 * 40) // (2 * 2)


@pytest.mark.parametrize(('name', 'published'), [('s', 197.2), ('b', 292.3), ('l', 602.6)])
def test_anchors_cost_what_was_published(name, published):
    (path,) = [path for path in NYU if path.name.startswith(f'anchor-deit3-{name}_')]
    model = blank(path)
    flops = model_cost(model.backbone, (480, 640)).flops + head_flops(model.decode_head)
    assert flops / 1e9 == pytest.approx(published, abs=0.05)


@pytest.mark.skipif(not GOLDEN.exists(), reason='needs published costs: keep shared/ beside the repository')
@pytest.mark.parametrize('pair', ['s_l', 'b_l'])
def test_routes_cost_what_was_published(pair):
    published = json.loads((GOLDEN / f'published_flops_nyu_dpt_{pair}.json').read_text())['flops']
    model = blank(Path(str(S_L).replace('s-l', pair.replace('_', '-'))))
    of_head = head_flops(model.decode_head)
    flops = [cost.flops + of_head for cost in route_costs(model.backbone, (480, 640))]
    assert len(flops) == len(published) == 134
    for id_, cost in enumerate(flops):
        # The released code keeps a degenerate stitch 13.
        assert cost == pytest.approx(published[str(id_ + (id_ > 12))], rel=0.003)
    # DeiT3-L alone.
    assert flops[1] / 1e9 == pytest.approx(602.6, abs=0.05)
    if pair == 's_l':
        assert [cost.flops for cost in route_costs(model, (480, 640))] == flops


def _scheduler(settings: dict, wrapper: OptimWrapper, epoch_length: int) -> _ParamScheduler:
    """As MMEngine's runner builds it."""
    arguments = {key: value for key, value in settings.items() if key not in ('type', 'convert_to_iter_based')}
    kind = PARAM_SCHEDULERS.get(settings['type'])
    if not settings['by_epoch']:
        return kind(optimizer=wrapper.optimizer, **arguments)
    return kind.build_iter_from_epoch(optimizer=wrapper.optimizer, epoch_length=epoch_length, **arguments)


def test_rate_and_momentum_follow_one_cycle():
    cfg, model = Config.fromfile(S_L), torch.nn.Linear(1, 1)
    settings = {key: value for key, value in cfg.optim_wrapper.items() if key != 'paramwise_cfg'}
    wrapper = build_optim_wrapper(model, settings)
    epoch = 50
    schedulers = [_scheduler(settings, wrapper, epoch) for settings in cfg.param_scheduler]
    rates, momenta = [], []
    for _ in range(24 * epoch):
        (group,) = wrapper.optimizer.param_groups
        rates.append(group['lr'])
        momenta.append(group['betas'][0])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    peak = round(0.3 * 24 * epoch)
    assert rates[0] == pytest.approx(2e-5 / 25)
    assert max(rates) == pytest.approx(2e-5)
    assert abs(rates.index(max(rates)) - peak) <= 1
    assert rates[-1] == pytest.approx(2e-5 / 25 / 100, rel=0.01)
    assert momenta[0] == pytest.approx(0.95)
    assert min(momenta) == pytest.approx(0.85, abs=1e-4)
    assert abs(momenta.index(min(momenta)) - peak) <= 1
    assert momenta[-1] == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize('path', NYU, ids=lambda path: path.stem)
def test_no_setting_scales_a_rate_that_one_cycle_sets(path):
    """MMEngine's automatic scaling would seem to work, and do nothing."""
    cfg, model = Config.fromfile(path), torch.nn.Linear(1, 1)
    wrapper = build_optim_wrapper(model, {**cfg.optim_wrapper, 'paramwise_cfg': None})
    for group in wrapper.optimizer.param_groups:
        group['lr'] *= 8
    _scheduler(cfg.param_scheduler[0], wrapper, 50)
    assert wrapper.optimizer.param_groups[0]['lr'] == pytest.approx(cfg.param_scheduler[0].eta_max / 25)
    assert 'auto_scale_lr' not in cfg


@pytest.mark.parametrize('path', [path for path in NYU if '_dpt_' in path.name], ids=lambda path: path.stem)
def test_the_recipe_is_the_published_one(path):
    cfg = Config.fromfile(path)
    steps = {step.type.removeprefix('mmsnnet.'): step for step in cfg.train_dataloader.dataset.pipeline}
    assert list(steps)[2:-1] == [
        'CheckDepth', 'NYUCrop', 'RandomRotate', 'RandomFlip', 'RandomCrop', 'GammaColorJitter'
    ]  # fmt: skip
    assert (steps['RandomRotate'].prob, steps['RandomRotate'].degree, steps['RandomFlip'].prob) == (0.5, 2.5, 0.5)
    # As ColorAug of the toolbox.
    jitter = steps['GammaColorJitter']
    assert (jitter.prob, jitter.gamma, jitter.brightness, jitter.color, jitter.white) == (
        0.5, (0.9, 1.1), (0.75, 1.25), (0.9, 1.1), 1
    )  # fmt: skip
    assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == [127.5] * 3
    assert (cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs) == (2, 24)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 2e-5, 0.01)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=35)
    head = built(path).decode_head
    assert (head.channels, head.readout, head.loss_decode.warm_up_iters) == (256, 'project', 100)
    assert head.reassemble_blocks.projects[3].conv.out_channels == 768
    assert not any(isinstance(module, torch.nn.modules.batchnorm._NormBase) for module in head.modules())


def test_tokens_positions_and_norms_do_not_decay():
    cfg, model = Config.fromfile(S_L), built(S_L)
    settings = dict(cfg.optim_wrapper)
    groups = build_optim_wrapper(model, settings).optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(group['params'][0])]: group['weight_decay'] for group in groups}
    assert decayed['backbone.anchors.0.pos_embed'] == decayed['backbone.anchors.1.cls_token'] == 0
    assert decayed['backbone.anchors.1.blocks.3.norm1.weight'] == 0
    assert decayed['backbone.anchors.1.blocks.3.mlp.fc1.weight'] == 0.01
    assert {group['lr'] for group in groups} == {2e-5}
