"""Per-class results, which metrics print but do not return."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mmengine.evaluator import BaseMetric, Evaluator

ClassMetrics = dict[str, dict[str, float]]


@contextmanager
def capture_class_metrics(evaluator: Evaluator) -> Iterator[ClassMetrics]:
    """A dict that fills with ``{'IoU': {'sky': 91.2, ...}}`` when the evaluator evaluates, on the main process."""
    captured: ClassMetrics = {}
    # Metrics are recognised by their attributes: MMSegmentation need not be installed. FastCocoMetric keeps its own.
    metrics = [metric for metric in evaluator.metrics if hasattr(metric, 'total_area_to_metrics')]
    for metric in metrics:
        metric.compute_metrics = partial(_compute, metric, captured)
    try:
        yield captured
        for metric in evaluator.metrics:
            captured.update(getattr(metric, 'class_metrics', {}))
    finally:
        for metric in metrics:
            del metric.compute_metrics


def _compute(metric: BaseMetric, captured: ClassMetrics, results: list) -> dict[str, float]:
    # With format_only, the metric writes files and has no areas.
    if results and not metric.format_only:
        areas = [sum(area) for area in zip(*results, strict=True)]
        by_class = metric.total_area_to_metrics(*areas, metric.metrics, metric.nan_to_num, metric.beta)
        by_class.pop('aAcc')
        for name, values in by_class.items():
            percent = (round(float(value) * 100, 2) for value in values)
            captured[name] = dict(zip(metric.dataset_meta['classes'], percent, strict=True))
    return type(metric).compute_metrics(metric, results)
