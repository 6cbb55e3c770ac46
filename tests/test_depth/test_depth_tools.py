"""Depth estimators through the command lines, on drawn rooms: law 8 for exported routes, law 11 for finished models."""

import importlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from toy_job import assert_one_line
from toy_pairs import load
from toy_rooms import HOOK, SIZE, WIDTHS, dpt, linear, toy_vit

from mmsnnet.building import build_model, build_runner, load_weights
from mmsnnet.depth import LeanDepthMetric
from mmsnnet.engine import hooks
from mmsnnet.engine.pictures import predict
from mmsnnet.errors import UserError
from mmsnnet.evaluation import RouteResults
from mmsnnet.models import find_backbone
from mmsnnet.stitching import Record, direction, front_records, main_metric, read_records, select, write_records

apis = importlib.import_module('mmseg.apis')

ROUTE = 'l[0:2]-s[1:2]'
NAMES = ['s[0:2]', 'l[0:4]', 's[0:1]-l[2:4]', ROUTE]
FLIP = {'model.test_cfg': dict(mode='slide_flip', crop_size=SIZE, stride=SIZE)}


def own_exits(*heads: dict) -> dict:
    """Changes of the config by which each anchor has its head."""
    heads = heads or tuple(dpt(width) for width in WIDTHS)
    per_exit = dict(_delete_=True, type='mmsnnet.PerExit', heads=list(heads))
    return {'model.backbone.exits': 'own', 'model.decode_head': per_exit}


EXITS = pytest.mark.parametrize('exits', [{}, own_exits()], ids=['shared exits', 'own exits'])


@pytest.fixture(autouse=True)
def _no_prediction_of_memory(monkeypatch):
    """It takes half of a toy's training, and ``tools/memory.py`` predicts it below."""
    monkeypatch.setattr(hooks, 'check_memory', lambda *_: None)


@pytest.fixture
def write(make_rooms_config, tmp_path) -> Callable[..., Path]:
    """The job's config as a file; keywords are merged into it."""

    def run(name: str = 'rooms', **changes) -> Path:
        make_rooms_config(name, **changes).dump(tmp_path / f'{name}.py')
        return tmp_path / f'{name}.py'

    return run


# Of the one training whose result most tests share.
_checkpoint: list[bytes] = []


@pytest.fixture
def trained(write, run_tool, tmp_path) -> tuple[Path, Path]:
    """Config and checkpoint of the job, trained for four iterations."""
    config, checkpoint = write(), tmp_path / 'trained.pth'
    if not _checkpoint:
        run_tool('train', config)
        _checkpoint.append((config.with_suffix('') / 'iter_4.pth').read_bytes())
    checkpoint.write_bytes(_checkpoint[0])
    return config, checkpoint


def scores(folder: Path) -> dict[str, dict]:
    return {record.name: record.metrics for record in read_records(folder / 'stitches.json')}


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint)['state_dict']


def read_model(config: Path, checkpoint: Path) -> torch.nn.Module:
    """The model of files, for MMSegmentation's inference."""
    cfg = Config.fromfile(config)
    model = build_model(cfg).eval()
    load_weights(model, str(checkpoint))
    model.cfg = cfg
    return model


def pictures(root: Path) -> list[Path]:
    return sorted((root / 'images' / 'val').iterdir())


# Training


def test_the_best_checkpoint_is_that_of_the_lowest_rmse_of_the_main_route(make_rooms_config, tmp_path):
    best = {'default_hooks.checkpoint': dict(save_best='rmse', rule='less')}
    runner = build_runner(make_rooms_config(**best, **{'train_cfg.val_interval': 1, 'train_cfg.max_iters': 6}))
    runner.train()
    history = runner.message_hub.get_scalar('val/rmse').data[0]
    assert len(set(history)) == len(history) == 6
    assert np.argmin(history) not in (0, np.argmax(history))
    (kept,) = (tmp_path / 'rooms').glob('best_*')
    assert kept.name == f'best_rmse_iter_{np.argmin(history) + 1}.pth'
    # The largest anchor's, whose keys are plain.
    assert np.array_equal(runner.message_hub.get_scalar('val/l0-4/rmse').data[0], history)


def test_training_stops_where_rmse_is_low(write, run_tool):
    stop = dict(type='EarlyStoppingHook', monitor='rmse', rule='less', stopping_threshold=100.0)
    config = write(**{'train_cfg.val_interval': 2, 'custom_hooks': [HOOK, stop]})
    run_tool('train', config)
    assert [path.name for path in config.with_suffix('').glob('*.pth')] == ['iter_2.pth']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'default_hooks.checkpoint.save_best': 'rmse'}, "save_best='rmse', of which lower is better, but rule=None"),
        (
            {'default_hooks.checkpoint': dict(save_best=['d1', 's0-2/abs_rel'], rule=['greater', 'greater'])},
            "'s0-2/abs_rel', .* but rule='greater': set default_hooks.checkpoint.rule='less'",
        ),
        ({'default_hooks.checkpoint': dict(save_best='auto', rule='less')}, "save_best='auto', which takes the first"),
        (
            {'custom_hooks': [HOOK, dict(type='EarlyStoppingHook', monitor='rmse')]},
            r"custom_hooks\.1 has monitor='rmse', .*: set custom_hooks\.1\.rule='less'",
        ),
        ({'model.test_cfg.mode': 'slide'}, "mode='slide' without crop_size and stride"),
        ({'model.test_cfg': {**FLIP['model.test_cfg'], 'mode': 'slide'}}, "set mode='whole', or 'slide_flip'"),
        (
            {'model.backbone.output_cls_token': False},
            "readout='project' reads the class token, .*: set output_cls_token=True in the backbone",
        ),
        (
            {**own_exits(), 'model.backbone.output_cls_token': False},
            "readout='project' reads the class token, .*: set output_cls_token=True in the backbone",
        ),
        ({'model.backbone.out_indices': (1, 2, 3)}, 'DPTDepthHead has in_index 3, but 3 levels leave the backbone'),
        (
            {**own_exits(), 'model.backbone.out_indices': (1, 2, 3)},
            'DPTDepthHead has in_index 3, but 3 levels leave the backbone: add blocks to out_indices',
        ),
        ({'model.decode_head.in_channels': 16}, 'has levels of the widest anchor, 32 channels: set in_channels to 32'),
        (
            own_exits(dpt(16), dpt(16)),
            r'the head of decode_head for anchor 1 has in_channels=\[16, 16, 16, 16\], .*: set in_channels to 32',
        ),
        (
            own_exits(dpt(16), dpt(32, max_depth=80.0)),
            r'heads of a PerExit must have one max_depth, got \[10\.0, 80\.0\]',
        ),
        (
            {'model.backbone.anchors': [toy_vit(index, 2, 'vit_base_patch16_siglip_224') for index in range(2)]},
            "has no class token: leave it out, and take a head that reads maps alone .*, readout='ignore'",
        ),
    ],
)
def test_training_refuses_in_one_line(write, run_tool, changes, message):
    config = write(**changes)
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', config)
    assert_one_line(stopped.value, message)
    assert not list(config.with_suffix('').glob('*.pth'))


def test_too_many_levels_are_refused_before_the_first_iteration(write, run_tool):
    config = write(**{'model.backbone.anchors.1.depth': 5, 'model.backbone.out_indices': (0, 1, 2, 3, 4)})
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', config)
    assert_one_line(stopped.value, 'DPTDepthHead reads 4 levels, but 5 leave the backbone')


def test_mmsegmentation_s_dpt_head_is_refused_without_class_tokens(make_config, run_tool, tmp_path):
    """On two images it would read the maps of each as a pair."""
    cfg = make_config(**{'model.backbone.out_indices': (0, 1, 2, 3)})
    sizes = dict(in_channels=[16] * 4, embed_dims=16, channels=8, post_process_channels=[4, 4, 8, 8], num_classes=3)
    cfg.model.decode_head = dict(type='DPTHead', in_index=[0, 1, 2, 3], input_transform='multiple_select', **sizes)
    cfg.dump(tmp_path / 'toy.py')
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', tmp_path / 'toy.py')
    assert_one_line(stopped.value, 'decode_head is a DPTHead, which reads the class token .* set output_cls_token=True')
    cfg.model.backbone.output_cls_token = True
    cfg.dump(tmp_path / 'toy.py')
    run_tool('train', tmp_path / 'toy.py')


@pytest.mark.parametrize('per_rank', [False, True])
def test_ranks_with_routes_of_their_own_share_no_norms_of_heads(make_rooms_config, per_rank):
    """They would wait for each other: each runs the head of its own exit."""
    heads = [linear(width) | dict(norm_cfg=dict(type='SyncBN')) for width in WIDTHS]
    cfg = make_rooms_config(**own_exits(*heads), **{'custom_hooks.0.per_rank_routes': per_rank})
    runner = build_runner(cfg)
    # As in a job of two ranks; alone, MMEngine puts other norms in their place.
    runner._world_size, runner.model = 2, build_model(cfg)
    if not per_rank:
        runner.train()
        return
    with pytest.raises(UserError, match=r'decode_head has SyncBN, .* per_rank_routes=True .*: set norm_cfg'):
        runner.train()


def test_a_resumed_run_ends_like_one_that_never_stopped(write, run_tool):
    """With what samplers and losses have learnt: routes' losses, and how long losses have warmed up."""
    hook = {'custom_hooks.0.focus': dict(routes=1, images=2), 'custom_hooks.0.sampler': dict(type='LossSampler')}
    changes = {**own_exits(), **hook}
    config = write(**changes)
    run_tool('train', config)
    expected = weights_of(config.with_suffix('') / 'iter_4.pth')
    again = write('again', **changes, load_from=str(config.with_suffix('') / 'iter_2.pth'), resume=True)
    run_tool('train', again)
    resumed = weights_of(again.with_suffix('') / 'iter_4.pth')
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
    counters = [name for name in expected if name.endswith('loss_decode.iterations')]
    # The choice of routes by loss counts nothing.
    assert sum(int(expected[name]) for name in counters) == 4


# Evaluation


@pytest.mark.parametrize('mode', [{}, FLIP], ids=['whole', 'slide_flip'])
@EXITS
def test_predictions_in_one_pass_are_those_of_each_route_alone(make_rooms_config, tmp_path, exits, mode):
    """To the last bit. Mirrored images are second calls of the backbone."""
    runner = build_runner(make_rooms_config(**exits, **mode))
    loop, model = runner.test_loop, runner.model.eval()
    backbone = find_backbone(model)
    together = [
        (route, sample.img_path, sample.pred_depth_map.data.clone())
        for route, sample in predict(loop, list(backbone.space), 2)
    ]
    assert len(together) == 2 * 4
    assert not torch.equal(together[0][2], together[1][2])
    samples = {sample['data_samples'].img_path: sample for sample in loop.dataloader.dataset}
    for route, path, depth in together:
        backbone.set_route(route)
        data = {key: [value] for key, value in samples[path].items()}
        with torch.no_grad():
            (alone,) = model.test_step(data)
        assert torch.equal(depth, alone.pred_depth_map.data), route


def test_metrics_in_one_pass_are_those_of_each_route_alone(trained, write, run_tool, tmp_path):
    config, checkpoint = write('flip', **FLIP), trained[1]
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'all')
    together = scores(tmp_path / 'all')
    assert list(together) == NAMES
    for name in NAMES[::3]:
        run_tool('test', config, checkpoint, '--work-dir', tmp_path / name, '--routes', name)
        assert scores(tmp_path / name) == {name: together[name]}
    run_tool('test', *trained, '--work-dir', tmp_path / 'whole')
    assert scores(tmp_path / 'whole').keys() == together.keys()
    assert scores(tmp_path / 'whole') != together


def test_an_interrupted_test_goes_on(trained, run_tool, tmp_path, monkeypatch):
    arguments = ['benchmark', *trained, '--out']
    run_tool(*arguments, tmp_path / 'expected')
    process, calls = LeanDepthMetric.process, []

    def stop_at_the_sixth(self, *batch) -> None:
        calls.append(batch)
        if len(calls) == 6:
            raise KeyboardInterrupt
        process(self, *batch)

    monkeypatch.setattr(RouteResults, 'flush_seconds', 0)
    monkeypatch.setattr(LeanDepthMetric, 'process', stop_at_the_sixth)
    with pytest.raises(SystemExit, match='interrupted'):
        run_tool(*arguments, tmp_path / 'out', '--resume')
    run_tool(*arguments, tmp_path / 'out', '--resume')
    # Two batches of four routes: five steps were done, and the sixth began twice.
    assert len(calls) == 8 + 1
    assert scores(tmp_path / 'out') == scores(tmp_path / 'expected')


def test_predictions_are_saved_in_millimetres_and_painted(trained, run_tool, rooms_root, tmp_path):
    folder = tmp_path / 'predicted'
    words = ['--work-dir', tmp_path / 'out', '--out', folder, '--show-dir', tmp_path / 'shown']
    run_tool('test', *trained, *words)
    model = read_model(*trained)
    find_backbone(model).set_route('l[0:4]')
    for picture in pictures(rooms_root):
        depth = apis.inference_model(model, str(picture)).pred_depth_map.data[0].numpy()
        saved = cv2.imread(str(folder / f'{picture.stem}.png'), cv2.IMREAD_UNCHANGED)
        assert np.abs(saved - 1000 * depth).max() < 1.01
    assert len(list((tmp_path / 'shown').glob('**/*.png'))) == 4


def test_records_rank_by_rmse_and_tools_read_them(trained, run_tool, tmp_path, capsys):
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--latency', '--repetitions', 1, '--pictures', 1)
    records = read_records(tmp_path / 'out' / 'stitches.json')
    assert main_metric(records) == 'rmse'
    signs = {name: direction(name) for name in records[0].metrics}
    errors = ('abs_rel', 'sq_rel', 'rmse', 'rmse_log', 'log10', 'silog')
    assert signs == {**dict.fromkeys(('d1', 'd2', 'd3'), 1), **dict.fromkeys(errors, -1)}
    best = min(records, key=lambda record: record.metrics['rmse'])
    assert select(records, gflops=100) == best
    assert front_records(records, 'rmse')[-1] == best
    assert all(record.latency_ms > 0 for record in records)
    assert 'on the Pareto front of GFLOPs and rmse' in capsys.readouterr().out
    run_tool('plot', tmp_path / 'out' / 'stitches.json', '--out', tmp_path / 'plot.png')
    run_tool('compare', *[tmp_path / 'out' / 'stitches.json'] * 2)
    assert 'rmse over gflops' in capsys.readouterr().out
    run_tool('flops', trained[0], '--json', tmp_path / 'flops.json')
    assert [record.gflops for record in read_records(tmp_path / 'flops.json')] == [r.gflops for r in records]
    assert 'one pass' not in capsys.readouterr().out
    run_tool('memory', trained[0])
    assert 'most expensive l[0:4]' in capsys.readouterr().out


def test_the_cost_of_mirroring_is_said(write, run_tool, capsys):
    run_tool('flops', write(**FLIP))
    assert "GFLOPs of one pass: mode='slide_flip' of test_cfg runs two for a window" in capsys.readouterr().out


# Export


def test_an_exported_route_runs_in_plain_mmsegmentation(write, run_tool, rooms_root, tmp_path):
    """Law 8, also where a config lets inference load depth, as MMSegmentation's own does."""
    config = write(**own_exits(), **FLIP)
    cfg = Config.fromfile(config)
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.dump(config)
    run_tool('train', config)
    checkpoint, out = config.with_suffix('') / 'iter_4.pth', tmp_path / 'route'
    run_tool('export', config, checkpoint, '--route', ROUTE, '--out', out, '--repetitions', 1)
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'all', '--routes', ROUTE)
    slim = str(out / 'slim.py'), str(out / 'slim.pth')
    run_tool('test', *slim, '--work-dir', tmp_path / 'slim')
    (alone,) = scores(tmp_path / 'slim').values()
    assert alone == pytest.approx(scores(tmp_path / 'all')[ROUTE], rel=1e-4)
    picture = str(pictures(rooms_root)[0])
    model = apis.init_model(*slim, device='cpu')
    depth = apis.inference_model(model, picture).pred_depth_map.data
    assert depth.shape == (1, *SIZE)
    supernet = read_model(config, checkpoint)
    find_backbone(supernet).set_route(ROUTE)
    supernet.cfg = model.cfg
    expected = apis.inference_model(supernet, picture).pred_depth_map.data
    torch.testing.assert_close(depth, expected, rtol=1e-5, atol=1e-5)
    inferencer = apis.MMSegInferencer(model=slim[0], weights=slim[1], device='cpu')
    assert np.allclose(inferencer(picture)['predictions'], depth, atol=1e-5)


def test_an_onnx_file_gives_depth_and_says_that_it_does_not_mirror(trained, write, run_tool, tmp_path, capsys):
    onnxruntime = pytest.importorskip('onnxruntime', reason="needs pip install -e '.[export]' -c constraints.txt")
    pytest.importorskip('onnxscript')
    config, out = write('flip', **FLIP), tmp_path / 'route'
    run_tool('export', config, trained[1], '--route', ROUTE, '--out', out, '--repetitions', 1, '--onnx')
    printed = capsys.readouterr().out
    assert "mode='slide_flip' of test_cfg also predicts the mirrored window, and takes the mean of both" in printed
    model = read_model(config, trained[1])
    find_backbone(model).set_route(ROUTE)
    session = onnxruntime.InferenceSession(out / 'depth_estimator.onnx', providers=['CPUExecutionProvider'])
    images = torch.randn(1, 3, *SIZE)

    def run(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(['depth'], {'images': images.numpy()})[0])

    with torch.no_grad():
        mirrored = model.slide_flip_inference(images, [dict(img_shape=SIZE, ori_shape=SIZE)])
    # What the note says.
    torch.testing.assert_close((run(images) + run(images.flip(3)).flip(3)) / 2, mirrored, rtol=1e-4, atol=1e-4)
    assert (run(images) - mirrored).abs().max() > 1e-3


def test_depth_streams(trained, write, run_tool, rooms_root, tmp_path, capsys):
    # Cost and RMSE of each route.
    values = ((1.0, 3.0), (4.0, 1.0), (2.0, 2.5), (3.0, 2.0))
    records = [
        Record(id_, name, 'SL', cost, 1.0, {'rmse': rmse}, latency_ms=cost)
        for id_, (name, (cost, rmse)) in enumerate(zip(NAMES, values, strict=True))
    ]
    write_records(records, tmp_path / 'records.json')
    words = ['--records', tmp_path / 'records.json', '--images', rooms_root / 'images' / 'val', '--target-ms', 1e4]
    run_tool('stream', *trained, *words, '--plot', tmp_path / 'stream.png')
    assert '0 of 4 frames took longer' in capsys.readouterr().out
    assert (tmp_path / 'stream.png').exists()


# Finished models


def finished_dpt(cfg: Config, index: int) -> None:
    anchor = toy_vit(index, 4, ('deit3_small_patch16_224', 'vit_tiny_patch16_224')[index])
    backbone = dict(anchor=anchor, out_indices=list(range(4)), output_cls_token=True)
    cfg.model.backbone = ConfigDict(type='mmsnnet.AnchorViT', **backbone)
    cfg.model.decode_head = dpt(WIDTHS[index])


def finished_linear(cfg: Config, index: int) -> None:
    """As DINOv3's: only the head has been trained."""
    anchor = toy_vit(index, (2, 4)[index], 'vit_small_patch16_dinov3')
    cfg.model.backbone = ConfigDict(type='mmsnnet.AnchorViT', anchor=anchor, final_norm=True, frozen=True)
    cfg.model.decode_head = linear(WIDTHS[index])


@pytest.fixture
def finish(make_rooms_config, run_tool, tmp_path):
    """Two finished estimators of depth, each trained for two iterations: config and checkpoint of either."""

    def run(kind, train: bool = True, **changes) -> list[Path]:
        words = []
        for index in range(2):
            cfg = make_rooms_config(f'finished{index}', **{'train_cfg.max_iters': 2})
            kind(cfg, index)
            cfg.custom_hooks, cfg.val_cfg, cfg.test_cfg = [], dict(type='ValLoop'), dict(type='TestLoop')
            cfg.merge_from_dict(changes if index else {})
            config, checkpoint = tmp_path / f'finished{index}.py', tmp_path / f'finished{index}' / 'iter_2.pth'
            cfg.dump(config)
            if train:
                run_tool('train', config)
            else:
                checkpoint.parent.mkdir()
                torch.save({'state_dict': build_model(cfg).state_dict()}, checkpoint)
            words += [config, checkpoint]
        return words

    return run


def depths_of(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_decode(images, [dict(img_shape=SIZE)] * len(images))


def test_finished_estimators_stay_what_they_are(finish, run_tool, tmp_path):
    """Law 11, through a training of few routes chosen by loss."""
    pair, stitched = finish(finished_dpt), tmp_path / 'stitched.py'
    run_tool('stitch', *pair, '--out', stitched, '--routes', 1)
    run_tool('train', stitched, '--work-dir', tmp_path / 'trained')
    start, end = stitched.with_suffix('.pth'), tmp_path / 'trained' / 'iter_2.pth'
    assert len(torch.load(end)['trained_routes']) == 3
    assert_holds(pair, stitched, [start, end], run_tool, tmp_path)
    # Copies of heads went on where the finished ones stood: their losses warm up no more.
    counts = {name: int(value) for name, value in weights_of(end).items() if name.endswith('.iterations')}
    assert sum(counts[name] for name in counts if '.tuned.' in name) == 2 * 2 + 2
    assert sum(counts.values()) == 4 * 2 + 2


def test_a_route_is_added_and_taken_away(finish, run_tool, tmp_path):
    """Law 11 with frozen backbones, whose heads have batch norms."""
    pair, stitched, grown = finish(finished_linear), tmp_path / 'stitched.py', tmp_path / 'grown.py'
    route, end = 's[0:1]-l[2:4]', tmp_path / 'trained' / 'iter_2.pth'
    run_tool('stitch', *pair, '--out', stitched)
    run_tool('stitch', '--add', route, stitched, stitched.with_suffix('.pth'), '--out', grown)
    run_tool('train', grown, '--work-dir', tmp_path / 'trained')
    assert_holds(pair, grown, [end], run_tool, tmp_path)
    run_tool('export', grown, end, '--repetitions', 1, '--route', route, '--out', tmp_path / 'route')
    run_tool('test', tmp_path / 'route' / 'slim.py', tmp_path / 'route' / 'slim.pth', '--work-dir', tmp_path / 'slim')
    run_tool('test', grown, end, '--routes', route, '--work-dir', tmp_path / 'test')
    (slim,) = scores(tmp_path / 'slim').values()
    assert slim == pytest.approx(scores(tmp_path / 'test')[route], rel=1e-4)


def assert_holds(pair: list[Path], config: Path, checkpoints: list[Path], run_tool, folder: Path) -> None:
    """Assert that routes of anchors give what finished models give, to the last bit, and have their metrics."""
    images, alone = torch.randn(2, 3, *SIZE), []
    for finished in (pair[:2], pair[2:]):
        alone.append(depths_of(read_model(*finished), images))
        run_tool('test', *finished, '--work-dir', folder / finished[0].stem)
    assert not torch.equal(*alone)
    for checkpoint in checkpoints:
        model = read_model(config, checkpoint)
        for index, expected in enumerate(alone):
            find_backbone(model).set_route(index)
            assert torch.equal(depths_of(model, images), expected)
        run_tool('test', config, checkpoint, '--routes', 'anchors', '--work-dir', folder / 'anchors')
        (small,), (large,) = (scores(folder / finished.stem).values() for finished in pair[::2])
        assert list(scores(folder / 'anchors').values()) == [small, large]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'model.decode_head.max_depth': 80.0},
            r'they differ in min_depth and max_depth of their heads: \[\(0\.001, 10\.0\)\] and \[\(0\.001, 80\.0\)\]',
        ),
        (
            {'test_dataloader.dataset.pipeline.1.depth_rescale_factor': 1 / 256},
            r'they differ in depth_rescale_factor of the same files: 0\.001 and 0\.0039',
        ),
        (
            {'model.backbone.output_cls_token': False, 'model.decode_head.readout': 'ignore'},
            'they differ in output_cls_token: True and False',
        ),
    ],
)
def test_stitch_refuses_estimators_that_do_not_fit(finish, run_tool, tmp_path, changes, message):
    pair = finish(finished_dpt, train=False, **changes)
    with pytest.raises(SystemExit) as stopped:
        run_tool('stitch', *pair, '--out', tmp_path / 'refused.py')
    assert_one_line(stopped.value, message)
    assert not (tmp_path / 'refused.py').exists()


def test_files_of_another_format_may_need_another_factor(finish, run_tool, tmp_path, capsys):
    changes = {'pipeline.1.depth_rescale_factor': 1 / 256, 'data_root': 'elsewhere'}
    dataset = {f'test_dataloader.dataset.{key}': value for key, value in changes.items()}
    pair = finish(finished_dpt, train=False, **dataset)
    run_tool('stitch', *pair, '--out', tmp_path / 'stitched.py')
    assert "note: test data set differs: the large model's is used for both" in capsys.readouterr().out


def test_different_heads_read_what_they_want(finish, run_tool, tmp_path):
    """The small model's head leaves class tokens out, the large one's reads them."""

    def kind(cfg: Config, index: int) -> None:
        finished_dpt(cfg, index)
        cfg.model.decode_head = (linear(WIDTHS[0], in_index=2), dpt(WIDTHS[1], readout='add'))[index]

    pair, images = finish(kind, train=False), torch.randn(2, 3, *SIZE)
    run_tool('stitch', *pair, '--out', tmp_path / 'stitched.py')
    model = load(Config.fromfile(tmp_path / 'stitched.py'))
    for index, finished in enumerate((pair[:2], pair[2:])):
        find_backbone(model).set_route(index)
        assert torch.equal(depths_of(model, images), depths_of(read_model(*finished), images))
