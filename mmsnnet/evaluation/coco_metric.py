"""COCO's metrics by a faster evaluator. Needs MMDetection, so mmsnnet imports it only where a config asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric

from mmsnnet.registry import METRICS, register

try:
    import faster_coco_eval
except ImportError:
    faster_coco_eval = None


@register(METRICS)
class FastCocoMetric(CocoMetric):
    """MMDetection's ``CocoMetric``, with the same arguments and numbers, in less time.

    faster-coco-eval matches detections in C++ where it is installed, otherwise pycocotools does: one evaluation of COCO
    takes pycocotools a minute or more, and a stitched model has one for every route.

    Args:
        evaluator: ``'faster-coco-eval'``, ``'pycocotools'``, or ``'auto'``: the first where it is installed.
        **kwargs: as ``CocoMetric``'s.

    Raises:
        ValueError: another evaluator, or one that is not installed.
    """

    def __init__(self, *args, evaluator: str = 'auto', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if evaluator not in ('auto', 'faster-coco-eval', 'pycocotools'):
            raise ValueError(f"evaluator must be 'auto', 'faster-coco-eval' or 'pycocotools', got {evaluator!r}")
        if evaluator == 'faster-coco-eval' and faster_coco_eval is None:
            raise ValueError('faster-coco-eval is not installed: pip install faster-coco-eval')
        self.evaluator = 'pycocotools' if evaluator == 'pycocotools' or not faster_coco_eval else 'faster-coco-eval'

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Metrics of (ground truth, prediction) pairs, one an image."""
        if self.evaluator == 'pycocotools':
            return super().compute_metrics(results)
        with _faster_evaluator(coco_metric):
            return super().compute_metrics(results)


@contextmanager
def _faster_evaluator(module: ModuleType) -> Iterator[None]:
    original = module.COCOeval
    module.COCOeval = faster_coco_eval.COCOeval_faster
    try:
        yield
    finally:
        module.COCOeval = original
