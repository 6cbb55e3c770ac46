"""The command lines on a toy detector."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from toy_job import assert_one_line

from mmsnnet.building import build_model, load_weights
from mmsnnet.evaluation import RouteResults
from mmsnnet.models import find_backbone
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import read_records


@pytest.fixture
def job(make_detection_config, run_tool, tmp_path) -> tuple[Path, Path]:
    """Config and checkpoint of a detector trained for three iterations."""
    path = tmp_path / 'toy.py'
    make_detection_config().dump(path)
    run_tool('train', path)
    return path, tmp_path / 'detection' / 'iter_3.pth'


def test_benchmark_writes_records_plots_and_report(job, run_tool, tmp_path, capsys):
    run_tool('benchmark', *job, '--out', tmp_path / 'out', '--latency', '--repetitions', 1)
    records = read_records(tmp_path / 'out' / 'stitches.json')
    assert len(records) == 4
    assert all(record.latency_ms > 0 and record.memory_mb > 0 for record in records)
    assert all(set(record.classes['coco/bbox_mAP']) == {'square', 'disc'} for record in records)
    assert 'bbox_mAP' in capsys.readouterr().out
    assert 'coco/bbox_mAP' in (tmp_path / 'out' / 'report.html').read_text()


def test_latency_is_estimated_from_windowed_and_global_blocks(job, run_tool, tmp_path):
    run_tool('benchmark', *job, '--out', tmp_path / 'out', '--latency', 'estimate', '--repetitions', 1)
    assert all(record.latency_ms > 0 for record in read_records(tmp_path / 'out' / 'stitches.json'))


def test_results_of_images_go_to_disk(job, run_tool, tmp_path, monkeypatch):
    """What metrics hold of predictions is no more than what came since the last writing."""
    held, step_done = [], RouteResults.step_done

    def watched(results: RouteResults) -> None:
        step_done(results)
        held.append(sum(len(part) for lists in results._open.values() for part in lists))

    monkeypatch.setattr(RouteResults, 'flush_seconds', 0)
    monkeypatch.setattr(RouteResults, 'step_done', watched)
    run_tool('benchmark', *job, '--out', tmp_path / 'out')
    assert held
    assert max(held) == 0


@torch.no_grad()
@pytest.mark.parametrize('name', ['s[0:2]', 'l[0:4]', 's[0:1]-l[2:4]'])
def test_slim_detector_detects_what_the_supernet_does(job, run_tool, tmp_path, name):
    config, checkpoint = job
    run_tool('export', config, checkpoint, '--route', name, '--out', tmp_path / 'slim', '--repetitions', 1)
    supernet = build_model(Config.fromfile(config)).eval()
    load_weights(supernet, str(checkpoint))
    find_backbone(supernet).set_route(name)
    slim = build_model(Config.fromfile(tmp_path / 'slim' / 'slim.py')).eval()
    load_weights(slim, str(tmp_path / 'slim' / 'slim.pth'))
    size = [sum(parameter.numel() for parameter in model.parameters()) for model in (slim, supernet)]
    assert size[0] < size[1]
    images = torch.randn(1, 3, 64, 64)
    slim_maps, maps = (model.extract_feat(images) for model in (slim, supernet))
    for ours, theirs in zip(slim_maps, maps, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert task_of(slim).outputs(images)


def test_slim_config_evaluates_in_mmdetection(job, run_tool, tmp_path):
    config, checkpoint = job
    run_tool('test', config, checkpoint, '--routes', 's[0:1]-l[2:4]', '--work-dir', tmp_path / 'tested')
    (record,) = read_records(next((tmp_path / 'tested').glob('**/stitches.json')))
    run_tool('export', config, checkpoint, '--route', record.name, '--out', tmp_path / 'slim', '--repetitions', 1)
    cfg = Config.fromfile(tmp_path / 'slim' / 'slim.py')
    cfg.load_from, cfg.work_dir = str(tmp_path / 'slim' / 'slim.pth'), str(tmp_path / 'alone')
    assert Runner.from_cfg(cfg).test() == pytest.approx(record.metrics, abs=2e-3)


def test_onnx_is_refused(job, run_tool, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run_tool('export', *job, '--route', 0, '--out', tmp_path / 'slim', '--onnx')
    assert_one_line(stopped.value, '--onnx and --torch-export are for segmentors, .* this is a MaskRCNN')


@pytest.mark.parametrize('file', ['train/annotations.json', 'val/annotations.json'])
def test_a_missing_annotation_file_is_named(job, run_tool, coco_root, file):
    (coco_root / file).unlink()
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', job[0])
    assert_one_line(stopped.value, f'no data at .*{file}')


def test_predictions_of_the_main_route_are_saved(job, run_tool, tmp_path):
    """Each stitch would overwrite those of the one before."""
    run_tool('test', *job, '--out', tmp_path / 'saved')
    saved = json.loads((tmp_path / 'saved' / 'predictions.bbox.json').read_text())
    run_tool('test', *job, '--routes', 'l[0:4]', '--out', tmp_path / 'alone')
    assert saved == json.loads((tmp_path / 'alone' / 'predictions.bbox.json').read_text())
    assert saved
