"""One evaluator for many routes."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger

from mmsnnet.evaluation.routes.class_metrics import capture_class_metrics
from mmsnnet.evaluation.routes.route_results import RouteResults
from mmsnnet.evaluation.routes.shared_work import RankGroup, evaluating_alone, interleaved
from mmsnnet.stitching import Route

Metrics = dict[str, float]
ClassMetrics = dict[str, dict[str, float]]


class RouteEvaluator:
    """Keeps the results of several routes apart for an MMEngine ``Evaluator``.

    A metric collects in its list ``results``. Each route has its own lists, which the metrics use in turn, so that
    metrics with large tables, such as COCO's, exist once.

    Args:
        evaluator: of one model.
        results: of all routes, perhaps with results of an interrupted run.
        main_route: the one whose metrics keep their plain keys.
        report: called with each route, its metrics and its metrics by class, as soon as they are known.
        known: metrics that need not be computed again.
        ranks: that share the computation, entered.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        results: RouteResults,
        main_route: Route,
        report: Callable[[Route, Metrics, ClassMetrics], None],
        known: dict[Route, Metrics],
        ranks: RankGroup,
    ) -> None:
        self.evaluator = evaluator
        self.results = results
        self.main_route = main_route
        self.report = report
        self.ranks = ranks
        self.metrics: dict[Route, Metrics] = dict(known)

    def process(self, route: Route, data_samples: Sequence, data_batch: Any) -> None:
        """Add one route's predictions for a batch."""
        self._lend(self.results.lists(route))
        self.evaluator.process(data_samples=data_samples, data_batch=data_batch)
        self.results.step_done()

    def skip_batch(self, steps: int) -> None:
        """Count a batch from which no image could be loaded."""
        for _ in range(steps):
            self.results.step_done()

    def evaluate(self, size: int) -> Metrics:
        """Metrics of all routes over ``size`` images, on every rank: the main route's plain, then each route's.

        A route's keys are ``<route.log_name>/<key>``. Each rank computes the metrics of another route at the same time,
        because one route's metrics on a large data set can take a minute.
        """
        left = [route for route in self.results.routes if route not in self.metrics]
        for start in range(0, len(left), self.ranks.size):
            self._evaluate_together(left[start : start + self.ranks.size], size)
        merged = dict(self.metrics[self.main_route])
        for route in self.results.routes:
            merged |= {f'{route.log_name}/{key}': value for key, value in self.metrics[route].items()}
        return merged

    def _evaluate_together(self, routes: Sequence[Route], size: int) -> None:
        """Let each rank compute the metrics of one route."""
        own = None
        for rank, route in enumerate(routes):
            parts = self.ranks.to_rank(self.results.load(route), rank)
            if parts is not None:
                own = route, [interleaved(list(results), size) for results in zip(*parts, strict=True)]
        outcomes = self.ranks.to_all(self._evaluate_alone(*own, size) if own else None)
        for route, (metrics, by_class) in zip(routes, outcomes, strict=False):
            self.metrics[route] = metrics
            self.report(route, metrics, by_class)

    def _evaluate_alone(self, route: Route, results: Sequence[list], size: int) -> tuple[Metrics, ClassMetrics]:
        """Metrics of one route from the results of all ranks."""
        self._lend(results)
        files = nullcontext() if route == self.main_route else _without_files(self.evaluator)
        with files, _without_tables(), evaluating_alone(), capture_class_metrics(self.evaluator) as by_class:
            return self.evaluator.evaluate(size), by_class

    def _lend(self, lists: Sequence[list]) -> None:
        for metric, results in zip(self.evaluator.metrics, lists, strict=True):
            metric.results = results


@contextmanager
def _without_tables() -> Iterator[None]:
    """Silence the tables that a metric logs and prints at each evaluation."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _without_files(evaluator: Evaluator) -> Iterator[None]:
    """Let metrics save no predictions, which would overwrite those of the main route."""
    prefixes = {metric: metric.outfile_prefix for metric in evaluator.metrics if hasattr(metric, 'outfile_prefix')}
    for metric in prefixes:
        metric.outfile_prefix = None
    try:
        yield
    finally:
        for metric, prefix in prefixes.items():
            metric.outfile_prefix = prefix
