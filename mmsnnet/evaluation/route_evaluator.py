"""One evaluator for many routes."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from mmsnnet.stitching import Route


class RouteEvaluator:
    """Keeps the results of several routes apart for an MMEngine ``Evaluator``.

    A metric collects in its list ``results``; each route has lists of its own, which are lent to the metrics in turn.
    Metrics with large tables, such as COCO's, therefore exist once.

    Args:
        evaluator: of one model.
        routes: in the order of the report.
        main_route: the one whose metrics keep their plain keys.
    """

    def __init__(self, evaluator: Evaluator, routes: Sequence[Route], main_route: Route) -> None:
        self.evaluator = evaluator
        self.main_route = main_route
        self.metrics: dict[Route, dict[str, float]] = {}
        self._results: dict[Route, list[list]] = {route: [[] for _ in evaluator.metrics] for route in routes}

    def process(self, route: Route, data_samples: Sequence, data_batch: Any) -> None:
        """Add one route's predictions for a batch."""
        self._lend(route)
        self.evaluator.process(data_samples=data_samples, data_batch=data_batch)

    def evaluate(self, size: int) -> dict[str, float]:
        """Metrics of all routes over ``size`` images: the main route's plain, then ``<route>/<key>`` of each."""
        with _without_tables():
            for route in self._results:
                self._lend(route)
                self.metrics[route] = self.evaluator.evaluate(size)
        merged = dict(self.metrics[self.main_route])
        for route, metrics in self.metrics.items():
            merged |= {f'{route.name}/{key}': value for key, value in metrics.items()}
        return merged

    def _lend(self, route: Route) -> None:
        for metric, results in zip(self.evaluator.metrics, self._results[route], strict=True):
            metric.results = results


@contextmanager
def _without_tables() -> Iterator[None]:
    """Silence the table of all classes that a metric prints each time: 134 of them are noise."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
