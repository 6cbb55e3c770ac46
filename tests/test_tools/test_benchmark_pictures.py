"""tools/benchmark.py --pictures on toy jobs."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from toy_job import assert_one_line

from mmsnnet.building import build_runner
from mmsnnet.engine import loops
from mmsnnet.engine.pictures import predict
from mmsnnet.evaluation.reports import report
from mmsnnet.models import find_backbone
from mmsnnet.stitching import read_records


def read_pictures(out: Path) -> dict | None:
    """What the page of a benchmark holds."""
    (data,) = re.findall(r'^const pictures = (.*);$', (out / 'report.html').read_text(), re.MULTILINE)
    return json.loads(data)


def names(out: Path) -> list[str]:
    return [picture['name'] for picture in read_pictures(out)['pictures']]


def test_pictures_are_spaced_evenly_and_show_every_route(trained, run_tool, tmp_path, capsys):
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--pictures', 2)
    assert names(tmp_path / 'out') == ['0', '3']
    pictures = read_pictures(tmp_path / 'out')
    ids = {str(record.id) for record in read_records(tmp_path / 'out' / 'stitches.json')}
    assert all(set(picture['routes']) == ids and picture['truth'] for picture in pictures['pictures'])
    # Of each: the image, the truth and four predictions.
    assert len(pictures['images']) == 2 * 6
    assert pictures['legend'] == {'ground': '#000000', 'left': '#ff0000', 'right': '#00ff00'}
    assert 'to keep the page small' not in capsys.readouterr().out
    # Some routes of the same run: the others' pictures are made again.
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--routes', 'anchors', '--pictures', 9)
    assert names(tmp_path / 'out') == ['0', '1', '2', '3']
    assert all(set(picture['routes']) == ids for picture in read_pictures(tmp_path / 'out')['pictures'])
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--routes', 'anchors')
    assert read_pictures(tmp_path / 'out') is None


@torch.no_grad()
@pytest.mark.parametrize('route_batch', [1, 4])
def test_predictions_are_those_of_each_route_alone(trained, route_batch):
    cfg = Config.fromfile(trained[0])
    cfg.load_from = str(trained[1])
    cfg.test_cfg.update(route_batch=route_batch)
    runner = build_runner(cfg)
    runner.load_or_resume()
    loop, backbone = runner.test_loop, find_backbone(runner.model)
    backbone.set_route(3)
    batches = []
    for route, sample in predict(loop, list(backbone.space), 3):
        batches.append((route, sample.img_path, sample.seg_logits.data.clone()))
    assert backbone.route.id == 3
    assert len(batches) == 3 * len(backbone.space)
    images = {sample['data_samples'].img_path: sample for sample in loop.dataloader.dataset}
    for route, path, logits in batches:
        backbone.set_route(route)
        data = images[path]
        (alone,) = runner.model.test_step({'inputs': [data['inputs']], 'data_samples': [data['data_samples']]})
        torch.testing.assert_close(logits, alone.seg_logits.data, rtol=1e-4, atol=1e-5)


def test_too_many_pictures_lose_no_evaluation(trained, run_tool, tmp_path, monkeypatch, capsys):
    arguments = ['benchmark', *trained, '--out', tmp_path / 'out', '--resume']
    with monkeypatch.context() as patched:
        patched.setattr(report, 'room_for_pictures', lambda *_: 0.01)
        with pytest.raises(SystemExit) as stopped:
            run_tool(*arguments, '--pictures', 4)
    assert_one_line(stopped.value, r'do not fit into 0.01 MB, those of (\d) images do: ask for --pictures \1; ')
    assert len(read_records(tmp_path / 'out' / 'stitches.json')) == 4

    def evaluate_again(*_) -> None:
        raise AssertionError

    monkeypatch.setattr(loops.StitchTestLoop, '_report_route', evaluate_again)
    monkeypatch.setattr(report, 'room_for_pictures', lambda *_: 0.02)
    run_tool(*arguments, '--pictures', 2)
    assert len(read_pictures(tmp_path / 'out')['pictures']) == 2
    assert 'to keep the page small, its pictures have' in capsys.readouterr().out


def test_a_picture_that_cannot_be_read_is_left_out_only_if_asked(trained, run_tool, tmp_path):
    image = trained[0].parent / 'data' / 'images' / 'val' / '3.png'
    image.write_bytes(image.read_bytes()[:100])
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--skip-unreadable', '--pictures', 2)
    assert names(tmp_path / 'out') == ['0']


def test_detections_are_drawn(make_detection_config, run_tool, tmp_path):
    make_detection_config().dump(tmp_path / 'toy.py')
    run_tool('train', tmp_path / 'toy.py')
    checkpoint = tmp_path / 'detection' / 'iter_3.pth'
    run_tool('benchmark', tmp_path / 'toy.py', checkpoint, '--out', tmp_path / 'out', '--pictures', 5)
    pictures = read_pictures(tmp_path / 'out')
    assert [picture['name'] for picture in pictures['pictures']] == ['0', '1', '2', '3', '4']
    for picture in pictures['pictures'][1:]:
        assert pictures['images'][picture['truth'][0]] != pictures['images'][picture['image']]
    assert pictures['legend'] == {}


def test_classes_are_named(make_classification_config, run_tool, tmp_path):
    make_classification_config().dump(tmp_path / 'toy.py')
    run_tool('train', tmp_path / 'toy.py')
    checkpoint = tmp_path / 'work_dir' / 'iter_4.pth'
    run_tool('benchmark', tmp_path / 'toy.py', checkpoint, '--out', tmp_path / 'out', '--pictures', 3)
    pictures = read_pictures(tmp_path / 'out')['pictures']
    assert [picture['truth'] for picture in pictures] == [[None, 'dark'], [None, 'light'], [None, 'red']]
    assert all(re.fullmatch(r'(\w+ 0\.\d\d(, |$)){3}', text) for _, text in pictures[0]['routes'].values())


def test_no_pictures_are_no_number(trained, run_tool, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--pictures', 0)
    assert_one_line(stopped.value, r'--pictures must be a whole number, 1 or more \(images to show\), got 0')
