"""tools/export.py on a toy job: law 8 on whole models and files."""

import importlib
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from toy_exact import make_exact
from toy_job import CROP, assert_one_line

from mmsnnet.building import build_model
from mmsnnet.export import slim_config
from mmsnnet.models import RouteViT, find_backbone
from mmsnnet.stitching import StitchSpace, read_records

ROUTE = 'l[0:2]-s[1:2]'


@pytest.mark.parametrize('route', [ROUTE, 's[0:2]', 'l[0:4]'])
def test_slim_model_scores_what_the_stitch_scores(trained, run_tool, tmp_path, route):
    run_tool('test', *trained, '--work-dir', tmp_path / 'supernet')
    run_tool('export', *trained, '--route', route, '--out', tmp_path / 'slim')
    run_tool('test', tmp_path / 'slim' / 'slim.py', tmp_path / 'slim' / 'slim.pth', '--work-dir', tmp_path / 'alone')
    (alone,) = read_records(tmp_path / 'alone' / 'stitches.json')
    stitch = next(r for r in read_records(tmp_path / 'supernet' / 'stitches.json') if r.name == route)
    assert alone.metrics == pytest.approx(stitch.metrics, abs=0.02)
    assert alone.params_m < stitch.params_m or not route.count('-')


def test_lists_of_heads_and_weights_that_training_began_with_are_taken_away(make_config, run_tool, tmp_path):
    cfg = make_exact(make_config(), None)
    first, exits = cfg.model.decode_head, [dict(head) for head in cfg.model.decode_head.heads]
    ocr = dict(type='OCRHead', ocr_channels=8, channels=8, num_classes=3, norm_cfg=dict(type='GN', num_groups=4))
    second = dict(first, heads=[dict(ocr, in_channels=head['in_channels'], in_index=1) for head in exits])
    cfg.model.update(type='CascadeEncoderDecoder', num_stages=2, decode_head=[first, second], auxiliary_head=None)
    torch.save(build_model(cfg.copy()).state_dict(), tmp_path / 'start.pth')
    cfg.model.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'start.pth'))
    cfg.dump(tmp_path / 'toy.py')
    run_tool('train', tmp_path / 'toy.py')
    (tmp_path / 'start.pth').unlink()
    run_tool('export', tmp_path / 'toy.py', tmp_path / 'work_dir' / 'iter_4.pth', '--route', ROUTE, '--out', tmp_path)
    slim = Config.fromfile(tmp_path / 'slim.py')
    assert [head.type for head in slim.model.decode_head] == ['FCNHead', 'OCRHead']
    assert 'init_cfg' not in slim.model
    build_model(slim).init_weights()


def test_loops_that_a_config_does_not_have_are_not_added(make_config):
    cfg = make_config(val_cfg=None, test_cfg=dict(type='StitchTestLoop', fp16=True, routes='trained'))
    slim = slim_config(cfg, StitchSpace((2, 4))[2])
    assert slim.val_cfg is None
    assert slim.test_cfg == dict(type='TestLoop', fp16=True)


def test_slim_checkpoint_holds_no_other_anchor_and_loads_by_weights_only(trained, run_tool, tmp_path):
    run_tool('export', *trained, '--route', 'l[0:4]', '--out', tmp_path)
    content = torch.load(tmp_path / 'slim.pth', weights_only=True)
    assert content['meta']['route'] == 'l[0:4]'
    assert content['meta']['dataset_meta']['classes'] == ('ground', 'left', 'right')
    names = content['state_dict']
    assert not any('anchors.0.' in name or 'lora' in name or '.up.' in name for name in names)
    supernet, slim = json.loads((tmp_path / 'export.json').read_text())['files']
    assert slim['params_m'] < supernet['params_m']
    assert slim['max_abs_difference'] < 1e-4


def test_a_route_of_compiled_blocks_is_taken_away_as_written(config_file, run_tool, tmp_path):
    """The supernet is compared as written, too: a backend that does not exist is never called."""
    config = config_file(**{'model.backbone.compile_blocks': dict(backend='eager')})
    run_tool('train', config)
    text = config.read_text().replace("backend='eager'", "backend='no_such_backend'")
    config.write_text(text)
    run_tool(
        'export', config, tmp_path / 'work_dir' / 'iter_4.pth', '--route', ROUTE, '--out', tmp_path, '--torch-export'
    )
    assert 'compile_blocks' not in (tmp_path / 'slim.py').read_text()


@pytest.mark.parametrize('windowed', [None, dict(window_size=3, img_size=CROP, global_attn_indexes=(0,))])
def test_files_of_operators_equal_the_supernet(make_config, run_tool, tmp_path, windowed):
    onnxruntime = pytest.importorskip('onnxruntime', reason="needs pip install -e '.[export]'")
    cfg, config = make_config(), tmp_path / 'toy.py'
    for anchor in cfg.model.backbone.anchors:
        anchor.windowed = windowed
    cfg.dump(config)
    run_tool('train', config)
    checkpoint = tmp_path / 'work_dir' / 'iter_4.pth'
    job = config, checkpoint
    run_tool('export', *job, '--route', ROUTE, '--out', tmp_path, '--onnx', '--torch-export', '--shape', 32, 64)
    model = build_model(Config.fromfile(config)).eval()
    load_checkpoint(model, str(checkpoint))
    find_backbone(model).set_route(ROUTE)
    for batch in (1, 3):
        images = torch.randn(batch, 3, 32, 64)
        with torch.no_grad():
            expected = model.encode_decode(images, [{'img_shape': (32, 64)}])
        program = torch.export.load(tmp_path / 'segmentor.pt2').module()
        torch.testing.assert_close(program(images), expected, rtol=1e-4, atol=1e-4)
        name = 'segmentor.onnx' if batch == 1 else 'segmentor_any_batch.onnx'
        session = onnxruntime.InferenceSession(tmp_path / name, providers=['CPUExecutionProvider'])
        (logits,) = session.run(None, {'images': images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=1e-4, atol=1e-4)
    files = json.loads((tmp_path / 'export.json').read_text())['files']
    assert len(files) == 5
    assert all(file['max_abs_difference'] < 1e-4 for file in files)


def test_a_budget_chooses_the_stitch(trained, run_tool, tmp_path):
    run_tool('benchmark', *trained, '--out', tmp_path / 'benchmark')
    records = read_records(tmp_path / 'benchmark' / 'stitches.json')
    most = sorted(record.gflops for record in records)[1]
    best = max((r for r in records if r.gflops <= most), key=lambda r: (r.metrics['mIoU'], -r.gflops))
    arguments = ['export', *trained, '--records', tmp_path / 'benchmark' / 'stitches.json', '--out', tmp_path / 'slim']
    run_tool(*arguments, '--budget', f'gflops={most}')
    assert Config.fromfile(tmp_path / 'slim' / 'slim.py').model.backbone.route == best.name
    for budget, message in (
        ('gflops=0', 'no route has gflops <= 0; the nearest is'),
        ('latency_ms=1', 'has no latency_ms: measure it'),
        ('watts=1', "unknown budget 'watts'"),
        ('gflops', "takes COST=MOST such as latency_ms=20, got 'gflops'"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tool(*arguments, '--budget', budget)
        assert_one_line(stopped.value, message)


def test_slim_model_runs_in_mmsegmentation_s_own_inference(trained, run_tool, tmp_path):
    apis = importlib.import_module('mmseg.apis')
    run_tool('export', *trained, '--route', ROUTE, '--out', tmp_path / 'slim')
    image = next((trained[0].parent / 'data' / 'images' / 'val').glob('*.png'))
    model = apis.init_model(str(tmp_path / 'slim' / 'slim.py'), str(tmp_path / 'slim' / 'slim.pth'), device='cpu')
    assert isinstance(model.backbone, RouteViT)
    slim = apis.inference_model(model, str(image)).seg_logits.data
    # The same with the stitched model and a picked route, and by MMSegmentation's inferencer.
    supernet = apis.init_model(str(trained[0]), str(trained[1]), device='cpu')
    supernet.backbone.set_route(ROUTE)
    torch.testing.assert_close(apis.inference_model(supernet, str(image)).seg_logits.data, slim, rtol=1e-4, atol=1e-4)
    inferencer = apis.MMSegInferencer(
        model=str(tmp_path / 'slim' / 'slim.py'), weights=str(tmp_path / 'slim' / 'slim.pth'), device='cpu'
    )
    labels = inferencer(str(image), show=False)['predictions']
    assert (torch.from_numpy(labels) == slim.argmax(0).cpu()).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--route', 's[0:9]'], "unknown route 's\\[0:9\\]'"),
        (['--route', '4'], 'unknown route id 4'),
    ],
)
def test_bad_input_is_told_in_one_line(trained, run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run_tool('export', *trained, '--out', tmp_path / 'slim', *arguments)
    assert_one_line(stopped.value, message)


def test_a_truncated_or_foreign_checkpoint_is_told_in_one_line(trained, run_tool, tmp_path):
    config, checkpoint = trained
    truncated = tmp_path / 'truncated.pth'
    truncated.write_bytes(checkpoint.read_bytes()[:-5000])
    foreign = tmp_path / 'foreign.pth'
    torch.save({'state_dict': {'backbone.conv1.weight': torch.zeros(3)}}, foreign)
    for path, message in ((truncated, 'truncated.pth is damaged'), (foreign, 'another architecture')):
        for tool, out in (('export', ['--route', ROUTE, '--out']), ('benchmark', ['--out'])):
            with pytest.raises(SystemExit) as stopped:
                run_tool(tool, config, path, *out, tmp_path / 'out')
            assert_one_line(stopped.value, message)
