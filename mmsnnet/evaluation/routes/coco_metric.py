"""COCO's metrics by a faster evaluator. Needs MMDetection, so mmsnnet imports it only where a config asks for it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric

from mmsnnet.errors import UserError
from mmsnnet.registry import METRICS, register

try:
    import faster_coco_eval
except ImportError:
    faster_coco_eval = None


@register(METRICS)
class FastCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric``, with the same arguments and numbers, in less time.

    pycocotools takes a minute or more to evaluate COCO, and a stitched model has one evaluation for every route.
    faster-coco-eval, where it is installed, matches detections in C++.

    Args:
        evaluator: ``'faster-coco-eval'``, ``'pycocotools'``, or ``'auto'``: the first where it is installed.
        **kwargs: as ``CocoMetric``'s.

    Attributes:
        class_metrics: AP by class of the last evaluation, as ``{'coco/bbox_mAP': {'person': 0.51, ...}}``.

    Raises:
        ValueError: another evaluator, or one that is not installed; ``use_mp_eval``.
    """

    def __init__(self, *args, evaluator: str = 'auto', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if evaluator not in ('auto', 'faster-coco-eval', 'pycocotools'):
            raise UserError(f"evaluator must be 'auto', 'faster-coco-eval' or 'pycocotools', got {evaluator!r}")
        if evaluator == 'faster-coco-eval' and faster_coco_eval is None:
            raise UserError('faster-coco-eval is not installed: pip install faster-coco-eval')
        if self.use_mp_eval:
            raise UserError('use_mp_eval is an evaluator of its own: leave it out, or use CocoMetric')
        self.class_metrics: dict[str, dict[str, float]] = {}
        self.evaluator = 'pycocotools' if evaluator == 'pycocotools' or not faster_coco_eval else 'faster-coco-eval'

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Metrics of (ground truth, prediction) pairs, one an image.

        Images without a prediction, for instance because they could not be read, do not count.
        """
        precisions: dict[str, np.ndarray] = {}
        base = coco_metric.COCOeval if self.evaluator == 'pycocotools' else faster_coco_eval.COCOeval_faster
        self.img_ids = [truth['img_id'] for truth, _ in results]
        with _evaluated_by(_keeping(base, precisions)):
            metrics = super().compute_metrics(results)
        # Without any detection, MMDetection returns nothing, and the route would have no metrics.
        metrics = dict.fromkeys(self._names(), 0.0) | metrics
        # Evaluators sort categories by id, whatever the order of classes.
        categories = self._coco_api.loadCats(sorted(self.cat_ids))
        self.class_metrics = {
            f'{self.prefix}/{kind}_mAP': dict(zip([c['name'] for c in categories], _by_class(precision), strict=True))
            for kind, precision in precisions.items()
        }
        return metrics

    def _names(self) -> list[str]:
        """Of the precisions that an evaluation gives."""
        if self.format_only:
            return []
        items = self.metric_items or ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
        return [f'{kind}_{item}' for kind in self.metrics if kind in ('bbox', 'segm') for item in items]


@contextmanager
def _evaluated_by(evaluator: type) -> Iterator[None]:
    """Let MMDetection's metric use another evaluator; it has no argument for that."""
    original = coco_metric.COCOeval
    coco_metric.COCOeval = evaluator
    try:
        yield
    finally:
        coco_metric.COCOeval = original


def _keeping(evaluator: type, precisions: dict[str, np.ndarray]) -> type:
    """An evaluator class that stores its precisions by kind (bbox, segm)."""

    class Keeping(evaluator):
        def accumulate(self, *args) -> None:
            super().accumulate(*args)
            if self.params.useCats:
                precisions[self.params.iouType] = self.eval['precision']

    return Keeping


def _by_class(precision: np.ndarray) -> list[float]:
    """AP of each class of precisions (IoU, recall, class, area, detections), NaN without objects."""
    of_class = precision[:, :, :, 0, -1]
    return [float(values[values > -1].mean()) if (values > -1).any() else math.nan for values in of_class.T]
