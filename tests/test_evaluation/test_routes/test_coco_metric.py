"""Both evaluators of ``FastCocoMetric`` give the same numbers, and those of MMDetection."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_detection_job import CLASSES, draw_coco

pytest.importorskip('mmdet')
pytest.importorskip('faster_coco_eval')

from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric
from pycocotools import mask as masks

from mmsnnet.evaluation.routes.coco_metric import FastCocoMetric


@pytest.fixture
def ann_file(tmp_path: Path) -> str:
    draw_coco(tmp_path / 'coco', 12, seed=0)
    return str(tmp_path / 'coco' / 'annotations.json')


def predictions(ann_file: str, seed: int = 1) -> list[tuple[dict, dict]]:
    """Results of a metric: every object a few times, moved and of uncertain class, and some nonsense."""
    rng = np.random.default_rng(seed)
    coco = COCO(ann_file)
    results = []
    for image_id, image in coco.imgs.items():
        boxes = [coco.anns[index]['bbox'] for index in coco.get_ann_ids(img_ids=[image_id])] * 3
        boxes += [[rng.uniform(0, 30), rng.uniform(0, 30), *rng.uniform(5, 30, 2)] for _ in range(2)]
        boxes = np.array(boxes) + rng.normal(0, 2, (len(boxes), 4))
        boxes[:, 2:] = boxes[:, 2:].clip(1)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).clip(0)
        pixels = np.zeros((image['height'], image['width'], len(boxes)), np.uint8, order='F')
        for index, (x1, y1, x2, y2) in enumerate(corners.astype(int)):
            pixels[y1:y2, x1:x2, index] = 1
        prediction = {
            'img_id': image_id,
            'bboxes': corners,
            'labels': rng.integers(0, len(CLASSES), len(boxes)),
            'scores': rng.uniform(size=len(boxes)),
            'masks': masks.encode(pixels),
        }
        results.append(({'img_id': image_id, 'width': image['width'], 'height': image['height']}, prediction))
    return results


def evaluate(metric: CocoMetric, results: list, monkeypatch) -> tuple[dict, list[np.ndarray]]:
    """Metrics, and what the evaluator gave before MMDetection rounded it to thousandths."""
    stats = []

    def keep(name: str, module) -> None:
        original = getattr(module, name)

        class Kept(original):
            def summarize(self) -> None:
                super().summarize()
                stats.append(np.array(self.stats))

        patch.setattr(module, name, Kept)

    with monkeypatch.context() as patch:
        keep('COCOeval', coco_metric)
        keep('COCOeval_faster', pytest.importorskip('faster_coco_eval'))
        metric.dataset_meta = {'classes': CLASSES}
        return metric.compute_metrics(results), stats


def test_evaluators_agree(ann_file, monkeypatch):
    results = predictions(ann_file)
    arguments = dict(ann_file=ann_file, metric=['bbox', 'segm'])
    expected, exact = evaluate(CocoMetric(**arguments), results, monkeypatch)
    fast, fast_exact = evaluate(FastCocoMetric(**arguments, evaluator='faster-coco-eval'), results, monkeypatch)
    slow, slow_exact = evaluate(FastCocoMetric(**arguments, evaluator='pycocotools'), results, monkeypatch)
    assert expected == fast == slow
    assert 0.05 < expected['bbox_mAP'] < 0.95
    assert expected['segm_mAP'] != expected['bbox_mAP']
    assert len(exact) == len(fast_exact) == 2
    for truth, other in zip(exact * 2, fast_exact + slow_exact, strict=True):
        np.testing.assert_allclose(other, truth, rtol=0, atol=1e-6)


def test_evaluators_differ(ann_file, monkeypatch):
    """The comparison above would say little if both names meant one evaluator."""
    used = []
    import faster_coco_eval

    class Told(faster_coco_eval.COCOeval_faster):
        def evaluate(self) -> None:
            used.append('faster')
            super().evaluate()

    monkeypatch.setattr(faster_coco_eval, 'COCOeval_faster', Told)
    results = predictions(ann_file)
    for evaluator, count in (('pycocotools', 0), ('faster-coco-eval', 1), ('auto', 2)):
        metric = FastCocoMetric(ann_file=ann_file, evaluator=evaluator)
        metric.dataset_meta = {'classes': CLASSES}
        metric.compute_metrics(results)
        assert len(used) == count


@pytest.mark.parametrize('evaluator', ['pycocotools', 'faster-coco-eval'])
def test_a_route_that_detects_nothing_scores_nothing(ann_file, evaluator):
    results = predictions(ann_file)
    for _, prediction in results:
        for key in ('bboxes', 'labels', 'scores', 'masks'):
            prediction[key] = prediction[key][:0]
    metric = FastCocoMetric(ann_file=ann_file, metric=['bbox', 'segm'], evaluator=evaluator)
    metric.dataset_meta = {'classes': CLASSES}
    metrics = metric.compute_metrics(results)
    assert len(metrics) == 12
    assert set(metrics.values()) == {0.0}


def test_falls_back_where_the_fast_evaluator_is_missing(ann_file, monkeypatch):
    monkeypatch.setattr('mmsnnet.evaluation.routes.coco_metric.faster_coco_eval', None)
    assert FastCocoMetric(ann_file=ann_file).evaluator == 'pycocotools'
    with pytest.raises(ValueError, match='faster-coco-eval is not installed'):
        FastCocoMetric(ann_file=ann_file, evaluator='faster-coco-eval')
    with pytest.raises(ValueError, match="got 'faster'"):
        FastCocoMetric(ann_file=ann_file, evaluator='faster')


def test_is_found_by_its_name_in_a_fresh_process():
    code = """
import mmsnnet
from mmengine.registry import METRICS, DefaultScope
with DefaultScope.overwrite_default_scope('mmdet'):
    print(METRICS.get('mmsnnet.FastCocoMetric').__name__)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == 'FastCocoMetric'


def test_ap_by_class_is_mmdetection_s_in_any_order_of_classes(ann_file):
    results = predictions(ann_file)
    for classes in (CLASSES, CLASSES[::-1]):
        expected = CocoMetric(ann_file=ann_file, classwise=True)
        ours = FastCocoMetric(ann_file=ann_file)
        expected.dataset_meta = ours.dataset_meta = {'classes': classes}
        by_class = expected.compute_metrics(results)
        ours.compute_metrics(results)
        found = ours.class_metrics['coco/bbox_mAP']
        assert found['square'] != found['disc']
        assert {name: round(ap, 3) for name, ap in found.items()} == {
            name: by_class[f'{name}_precision'] for name in CLASSES
        }


def test_images_that_were_not_run_do_not_count(ann_file):
    results = predictions(ann_file)
    metric = FastCocoMetric(ann_file=ann_file)
    metric.dataset_meta = {'classes': CLASSES}
    half = metric.compute_metrics(results[:6])
    counted_as_missed = CocoMetric(ann_file=ann_file)
    counted_as_missed.dataset_meta = {'classes': CLASSES}
    assert half['bbox_mAP'] > counted_as_missed.compute_metrics(results[:6])['bbox_mAP']


def test_use_mp_eval_is_refused(ann_file):
    with pytest.raises(ValueError, match='use_mp_eval is an evaluator of its own'):
        FastCocoMetric(ann_file=ann_file, use_mp_eval=True)


def test_toy_annotations_have_a_crowd(ann_file):
    assert [a['iscrowd'] for a in json.loads(Path(ann_file).read_text())['annotations']].count(1) == 1
