"""``tools/stitch.py`` on toy models: the stitched model holds both finished ones, and trains routes between them."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from toy_classification_job import SIZE
from toy_job import CROP
from toy_pairs import EXACT, PAIRS, anchors, beits, classifiers, detectors, load, segmenters, upernets
from toys import randomise

from mmsnnet.building import build_model
from mmsnnet.engine.exit_checks import check_exits
from mmsnnet.errors import UserError
from mmsnnet.export import slim_config, slim_state_dict
from mmsnnet.models import find_backbone, model_cost, route_costs
from mmsnnet.models.blank_batch import blank_batch
from mmsnnet.models.tasks import task_of


def images_of(cfg: Config) -> torch.Tensor:
    size = {'EncoderDecoder': CROP, 'ImageClassifier': (SIZE, SIZE)}.get(cfg.model.type, (64, 64))
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def flat(outputs) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else [tensor for item in outputs for tensor in flat(item)]


@pytest.mark.parametrize('kind', PAIRS)
def test_anchors_routes_are_the_finished_models(kind, make_pair, stitch):
    pair = make_pair(kind)
    cfg = stitch(pair)
    model, images = load(cfg), images_of(cfg)
    check_exits(model)
    for index in range(2):
        find_backbone(model).set_route(index)
        with torch.no_grad():
            ours, theirs = (flat(task_of(each).outputs(images)) for each in (model, pair.finished(index)))
        assert len(ours) == len(theirs) > 0
        for our, their in zip(ours, theirs, strict=True):
            if kind in EXACT:
                assert torch.equal(our, their)
            else:
                assert (our - their).abs().max() < 1e-5 * their.abs().max().clamp(min=1)


@pytest.mark.parametrize('exact', ['adapters', 'copies'])
@pytest.mark.parametrize('kind', PAIRS)
def test_routes_with_a_switch_train(kind, exact, make_pair, stitch):
    cfg = stitch(make_pair(kind), '--exact', exact)
    assert cfg.model.backbone.exact == exact
    model, images = load(cfg), images_of(cfg)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    model.train()
    for route in [route for route in find_backbone(model).space if route.kind != 'anchor']:
        find_backbone(model).set_route(route)
        batch = blank_batch(model, 2, tuple(images.shape[2:]), 'cpu', boxes_per_side=2)
        optimizer.zero_grad()
        loss, _ = model.parse_losses(model(images, batch[1], mode='loss'))
        loss.backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if '.anchors.' in name}
    assert {name.split('.')[1] for name in changed if name.startswith('backbone.')} >= {'up', 'down', 'tunings'}
    parts = [part for part in cfg.model if part.endswith(('head', 'neck')) and cfg.model[part]]
    assert {name.split('.')[0] for name in changed} == {'backbone', *parts}


@pytest.mark.parametrize('kind', [upernets, beits])
def test_converted_models_cost_and_export_like_any(kind, make_pair, stitch):
    """Laws 4 and 8, with a norm in the last block, relative positions and a neck."""
    cfg = stitch(make_pair(kind))
    cfg.model.backbone.lora_rank = 0
    model = randomise(build_model(copy.deepcopy(cfg))).eval()
    costs, images = route_costs(model, CROP), images_of(cfg)
    for route in find_backbone(model).space:
        find_backbone(model).set_route(route)
        slim = build_model(slim_config(cfg, route)).eval()
        slim.load_state_dict(slim_state_dict(model, route))
        assert costs[route.id] == model_cost(slim, CROP), route
        with torch.no_grad():
            torch.testing.assert_close(
                task_of(slim).outputs(images), task_of(model).outputs(images), rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize(
    ('small', 'large'),
    [
        (dict(in_index=0), dict(in_index=1)),
        (dict(in_index=[0, 1], input_transform='resize_concat'), dict(in_index=1)),
        (dict(in_index=1), dict(in_index=[0, 1], input_transform='resize_concat')),
    ],
)
def test_heads_may_read_other_levels_and_cost_what_they_read(small, large, make_pair, stitch):
    """Law 4, with levels that are tapped on either side of a switch."""

    def change(cfg: Config, index: int) -> None:
        head, changes = cfg.model.decode_head, (small, large)[index]
        cfg.model.backbone.anchor.depth, cfg.model.backbone.out_indices = ((3, (0, 2)), (6, (1, 5)))[index]
        levels = len(changes['in_index']) if isinstance(changes['in_index'], list) else 0
        head.update(changes, in_channels=[head.in_channels] * levels if levels else head.in_channels)

    cfg = stitch(make_pair(anchors, change))
    cfg.model.backbone.lora_rank = 0
    model = randomise(build_model(copy.deepcopy(cfg))).eval()
    costs = route_costs(model, CROP)
    for route in find_backbone(model).space:
        slim = build_model(slim_config(cfg, route)).eval()
        slim.load_state_dict(slim_state_dict(model, route))
        assert costs[route.id].flops == model_cost(slim, CROP).flops, route


@pytest.mark.parametrize('kind', [anchors, classifiers, detectors, segmenters, beits])
def test_training_starts_from_the_weights_in_the_checkpoint(kind, make_pair, stitch):
    """By ``init_cfg``, which heads whose ``init_weights`` ignore it get, too. Least squares then solves the layers."""
    cfg = stitch(make_pair(kind), '--exact', 'copies')
    model = build_model(copy.deepcopy(cfg))
    model.init_weights()
    written = load(cfg).state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith(('backbone.up.', 'backbone.down.')):
            assert torch.equal(value, written[name]), name
    heads = {name.split('.')[0] for name in written if '.tuned.' in name}
    assert heads == {name for name in cfg.model if name.endswith(('head', 'neck'))}


def test_checkpoints_with_pickled_objects_need_no_trust(make_pair, stitch):
    """MMEngine pickles its loss history into checkpoints; training cannot read it back."""
    pair = make_pair(anchors)
    content = torch.load(pair.checkpoint(0))
    torch.save(
        {**content, 'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0], [1])}}}, pair.checkpoint(0)
    )
    with pytest.raises(UserError, match='pickled'):
        CheckpointLoader.load_checkpoint(str(pair.checkpoint(0)))
    cfg = stitch(pair)
    model = build_model(copy.deepcopy(cfg))
    model.init_weights()
    for part, prefix in ((model.backbone, 'backbone.'), (model.decode_head, 'decode_head.')):
        for name, value in part.anchors[0].state_dict().items():
            own = prefix + ('anchors.0.' if prefix == 'backbone.' else '') + name
            assert torch.equal(value, content['state_dict'][own]), name


@pytest.mark.parametrize('kind', [anchors, classifiers, detectors])
def test_config_trains_focused_and_has_the_rest_of_the_large_one(kind, make_pair, stitch, monkeypatch):
    pair = make_pair(kind)
    # Paths hold from any folder.
    monkeypatch.chdir(pair.folder.parent)
    pair.folder = Path('pair')
    cfg = stitch(pair)
    large = pair.configs[1]
    for key in large:
        if key not in ('model', 'custom_hooks', 'val_cfg', 'test_cfg', 'custom_imports', 'work_dir', 'experiment_name'):
            assert cfg[key] == large[key], key
    assert cfg.model.get('test_cfg') == large.model.get('test_cfg')
    hook = dict(type='mmsnnet.StitchSamplingHook', sampler=dict(type='UniformSampler'), focus=dict(routes=2))
    assert cfg.custom_hooks == [hook]
    assert cfg.val_cfg == dict(type='mmsnnet.StitchValLoop', routes='trained')
    assert cfg.test_cfg == dict(type='mmsnnet.StitchTestLoop', routes='trained')
    assert cfg.find_unused_parameters is True
    assert cfg.load_from is None
    assert 'work_dir' not in cfg
    assert cfg.custom_imports['imports'] == ['mmsnnet']
    backbone = cfg.model.backbone
    assert (backbone.exits, backbone.exact) == ('own', 'adapters')
    for index, anchor in enumerate(backbone.anchors):
        path = str(pair.checkpoint(index).resolve())
        assert anchor.init_cfg == dict(type='Pretrained', checkpoint=path, prefix='backbone.anchors.0.')
    assert '_base_' not in Path(cfg.filename).read_text()


def test_options(make_pair, stitch):
    pair = make_pair(anchors)
    assert stitch(pair, '--routes', '1').custom_hooks[-1].focus == dict(routes=1)
    assert 'focus' not in stitch(pair, '--routes', '0').custom_hooks[-1]


def test_result_evaluates(make_pair, stitch, run_tool, tmp_path):
    pair = make_pair(upernets, lambda cfg, index: cfg.merge_from_dict({'model.auxiliary_head': None}))
    stitch(pair, '--routes', '0')
    config, checkpoint = (tmp_path / 'out' / f'stitched.{end}' for end in ('py', 'pth'))
    run_tool('test', config, checkpoint, '--routes', 'all', '--work-dir', tmp_path / 'test')
    run_tool('plot', tmp_path / 'test' / 'stitches.json', '--out', tmp_path / 'pareto.png')
    records = json.loads((tmp_path / 'test' / 'stitches.json').read_text())
    for index in range(2):
        run_tool('test', *pair.words[2 * index : 2 * index + 2], '--work-dir', tmp_path / str(index))
        (alone,) = json.loads((tmp_path / str(index) / 'stitches.json').read_text())
        (mine,) = (record for record in records if record['id'] == index)
        assert mine['metrics'] == pytest.approx(alone['metrics'])
        assert mine['gflops'] == pytest.approx(alone['gflops'])
        assert mine['trained'] is True
    assert {record['trained'] for record in records if record['id'] > 1} == {False}


@pytest.mark.parametrize('options', [(), ('--cfg-options', 'load_from={checkpoint}')])
def test_result_trains(options, make_pair, stitch, run_tool, tmp_path):
    """From the written config as it is, or from the whole checkpoint; either way with solved stitching layers."""
    cfg = stitch(make_pair(upernets), '--routes', '2')
    checkpoint = Path(cfg.filename).with_suffix('.pth')
    options = [word.format(checkpoint=checkpoint) for word in options]
    run_tool('train', cfg.filename, '--work-dir', tmp_path / 'train', *options)
    assert len(list((tmp_path / 'train').glob('*/stitching_layers.json'))) == 1
    before, trained = (torch.load(path) for path in (checkpoint, tmp_path / 'train' / 'iter_4.pth'))
    assert len(trained['trained_routes']) == 4
    after, before = trained['state_dict'], before['state_dict']
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.split('.')[0] for name in changed} == {'backbone', 'neck', 'decode_head', 'auxiliary_head'}
    assert not {name for name in changed if '.anchors.' in name}


# Settings


def test_layer_decay_goes_over_to_the_constructor_that_knows_anchors(make_pair, stitch):
    def decay(constructor: str, **paramwise_cfg):
        def change(cfg: Config, index: int) -> None:
            cfg.optim_wrapper.update(constructor=constructor, paramwise_cfg=ConfigDict(paramwise_cfg))

        optim_wrapper = stitch(make_pair(anchors, change)).optim_wrapper
        assert optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3)
        return optim_wrapper.constructor, optim_wrapper.paramwise_cfg

    ours = 'mmsnnet.LayerDecayOptimWrapperConstructor'
    theirs = decay('LayerDecayOptimizerConstructor', num_layers=4, layer_decay_rate=0.9)
    assert theirs == (ours, dict(layer_decay_rate=0.9))
    theirs = decay('LearningRateDecayOptimizerConstructor', num_layers=4, decay_rate=0.8, decay_type='layer_wise')
    assert theirs == (ours, dict(layer_decay_rate=0.8))
    assert decay(ours, layer_decay_rate=[0.7]) == (ours, dict(layer_decay_rate=[0.7, 0.7]))
    assert decay('Other', layer_decay_rate=0.7) == ('Other', dict(layer_decay_rate=0.7))


def test_a_bias_of_patches_that_a_config_leaves_out_is_used(make_pair, stitch, capsys):
    """Checkpoints of old versions of MMSegmentation have it; new versions ignore it without a warning."""
    pair = make_pair(segmenters)
    for index, cfg in enumerate(pair.configs):
        cfg.model.backbone.pop('patch_bias')
        cfg.dump(pair.folder / f'{index}.py')
    model = load(stitch(pair))
    for index in range(2):
        weights = torch.load(pair.checkpoint(index))['state_dict']
        bias = weights['backbone.patch_embed.projection.bias']
        assert bias.any()
        assert torch.equal(model.backbone.anchors[index].patch_embed.proj.bias, bias)
        assert f'note: {pair.checkpoint(index)} has a bias of patches' in capsys.readouterr().out or index


def test_says_what_the_small_model_loses(make_pair, stitch, capsys):
    slide = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    stitch(make_pair(anchors, lambda cfg, index: index or cfg.model.update(test_cfg=ConfigDict(slide))))
    assert "note: test_cfg differs: the large model's is used for both" in capsys.readouterr().out
    stitch(make_pair(anchors, lambda cfg, index: index or cfg.test_dataloader.dataset.pipeline.pop(1)))
    assert "note: test data set differs: the large model's is used for both" in capsys.readouterr().out
    stitch(make_pair(anchors, lambda cfg, index: index or cfg.test_dataloader.dataset.update(data_root='elsewhere')))
    assert 'note' not in capsys.readouterr().out


def test_says_what_hinders_training(make_pair, stitch, capsys):
    def slow(cfg: Config, index: int) -> None:
        keys = dict(norm=dict(decay_mult=0.0), backbone=dict(lr_mult=0.0))
        cfg.optim_wrapper.paramwise_cfg = dict(custom_keys=keys)

    def untrained(cfg: Config, index: int) -> None:
        cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = None

    stitch(make_pair(anchors, slow))
    assert 'note: paramwise_cfg slows backbone down, which holds for the updates' in capsys.readouterr().out
    stitch(make_pair(anchors, untrained))
    assert 'note: the config of the large model has no train_dataloader' in capsys.readouterr().out


def test_watches_no_metric_that_stays(make_pair, stitch, capsys):
    def change(cfg: Config, index: int) -> None:
        cfg.default_hooks.checkpoint.update(save_best='mIoU', rule='greater')
        cfg.custom_hooks = [dict(type='EarlyStoppingHook', monitor='mIoU'), dict(type='mmdet.NumClassCheckHook')]
        schedulers = [dict(type='ReduceOnPlateauLR', monitor='mIoU'), dict(type='LinearLR', end=2)]
        cfg.param_scheduler = schedulers if index else schedulers[0]

    pair = make_pair(anchors, change)
    cfg = stitch(pair)
    assert 'note: save_best, EarlyStoppingHook, ReduceOnPlateauLR: left out' in capsys.readouterr().out
    assert [scheduler.type for scheduler in cfg.param_scheduler] == ['LinearLR']
    assert [hook.type for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']
    kept = {
        key: value for key, value in pair.configs[1].default_hooks.checkpoint.items() if key in ('type', 'interval')
    }
    assert kept.items() <= dict(cfg.default_hooks.checkpoint).items()
    assert not {'save_best', 'rule'} & set(cfg.default_hooks.checkpoint)
    assert [hook.type for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']


def test_imports_what_either_model_needs_and_keeps_settings_of_the_large_backbone(make_pair, stitch):
    def change(cfg: Config, index: int) -> None:
        cfg.custom_imports = dict(imports=['mmsnnet', ('json', 'csv')[index]], allow_failed_imports=False)
        cfg.model.backbone.norm_eval = bool(index)

    cfg = stitch(make_pair(anchors, change))
    assert cfg.custom_imports['imports'] == ['mmsnnet', 'json', 'csv']
    assert cfg.model.backbone.norm_eval is True


def test_class_names_of_older_checkpoints_are_kept_and_compared(make_pair, stitch, assert_refused, run_tool, tmp_path):
    pair = make_pair(anchors)

    def rename(*names: str) -> None:
        for index, name in enumerate(names):
            weights = torch.load(pair.checkpoint(index))['state_dict']
            torch.save({'state_dict': weights, 'meta': {'CLASSES': ['ground', name]}}, pair.checkpoint(index))

    rename('cat', 'dog')
    assert_refused(pair, 'differ in their classes')
    rename('cat', 'cat')
    written = Path(stitch(pair).filename).with_suffix('.pth')
    assert torch.load(written)['meta']['dataset_meta'] == {'classes': ['ground', 'cat']}
    for index in range(2):
        # Weights alone, of a model in parallel.
        weights = torch.load(pair.checkpoint(index))['state_dict']
        torch.save({f'module.{name}': value for name, value in weights.items()}, pair.checkpoint(index))
    # Who reads the names expects none rather than an empty place.
    cfg = stitch(pair)
    assert 'dataset_meta' not in torch.load(written)['meta']
    # Training starts from them.
    build_model(cfg).init_weights()


def test_a_binary_segmentor_predicts(make_pair, stitch):
    binary = dict(num_classes=2, out_channels=1, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True))

    def change(cfg: Config, index: int) -> None:
        cfg.model.decode_head.update(binary, threshold=0.3)
        cfg.model.pop('auxiliary_head')

    pair = make_pair(anchors, change)
    model, images = load(stitch(pair)), torch.randn(1, 3, *CROP)
    for index in range(2):
        find_backbone(model).set_route(index)
        ours, theirs = (each.predict(images)[0].pred_sem_seg.data for each in (model, pair.finished(index)))
        assert torch.equal(ours, theirs)


def test_a_head_may_read_levels_side_by_side(make_pair, stitch, run_tool, make_config, tmp_path):
    side_by_side = dict(in_index=[0, 1], input_transform='resize_concat')

    def change(cfg: Config, index: int) -> None:
        cfg.model.decode_head.update(side_by_side, in_channels=[cfg.model.decode_head.in_channels] * 2)

    check_exits(load(stitch(make_pair(anchors, change))))
    shared = make_config(**{'train_cfg.max_iters': 1})
    shared.model.decode_head.update(side_by_side, in_channels=[16, 16])
    shared.dump(tmp_path / 'shared.py')
    run_tool('train', tmp_path / 'shared.py')
    assert (tmp_path / 'work_dir' / 'iter_1.pth').exists()
