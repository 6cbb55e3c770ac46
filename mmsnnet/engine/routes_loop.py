"""What validation and testing of many routes share: one pass over the data."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.runner import Runner

from mmsnnet.engine.batches import CheckedBatch, checked_batches, preprocessed_once
from mmsnnet.engine.checks import warn_without_sampling
from mmsnnet.engine.progress import RoutesProgress
from mmsnnet.engine.runners import find_input_shape, refuse_strategies, unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.evaluation import (
    RouteEvaluator,
    RouteResults,
    SharedPrefixes,
    choose_dtype,
    format_record,
    mixed_precision,
)
from mmsnnet.evaluation.routes.shared_work import RankGroup
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.stitching import CostTable, Record, Route, StitchSpace, select_routes
from mmsnnet.stitching.selection import RouteSelection


class RoutesLoop:
    """Reads each batch once and runs every selected route on it. Routes share what they can.

    A subclass lists it before one of MMEngine's loops.

    Args:
        routes: what to evaluate, as ``select_routes`` takes it: ``'all'``, ``'anchors'``, a number, ids and names, ...
        main_route: whose metrics keep their plain keys and whose predictions hooks see; by default the largest anchor,
            or the most expensive of the selected routes.
        input_shape: (height, width) at which costs are measured; by default the window of tests, or that of training.
        dtype: one of ``DTYPES``, mixed precision below float32; MMEngine's ``fp16=True`` is ``dtype='float16'``.
        memory_budget_mb, route_batch: of ``SharedPrefixes``.
        skip_unreadable: evaluate without images that cannot be loaded, instead of stopping.

    Attributes:
        records: on the main process, of the routes that are evaluated.
        provenance: of the records.
    """

    phase: str

    def __init__(
        self,
        *args: Any,
        routes: RouteSelection = 'all',
        main_route: int | str | None = None,
        input_shape: Sequence[int] | None = None,
        dtype: str | None = None,
        memory_budget_mb: float = 2048,
        route_batch: int = 1,
        skip_unreadable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        refuse_strategies(self.runner)
        if skip_unreadable and get_world_size() > 1:
            raise UserError('skip_unreadable works in one process: ranks would have results of unequal length')
        self.skip_unreadable = skip_unreadable
        self.selection = routes
        self.main_selection = main_route
        self.dtype = choose_dtype(dtype, self.fp16)
        self.device = next(self.runner.model.parameters()).device
        self.input_shape = tuple(input_shape or find_input_shape(self.runner))
        self.memory_budget_mb = memory_budget_mb
        self.route_batch = route_batch
        self.progress = RoutesProgress(self.runner.logger.info)
        self.costs: CostTable | None = None
        self.routes: list[Route] = []
        self.main_route: Route | None = None
        self.sharing: SharedPrefixes | None = None
        self.provenance: dict | None = None
        self.records: list[Record] = []
        # Of an interrupted run, that are not to be repeated: whole batches, and routes of the next one.
        self._batches_done = 0
        self._routes_done = 0
        warn_without_sampling(self.runner)
        self._refuse_unknown_routes()

    def run(self) -> dict[str, float]:
        """Evaluate every selected route; the route set before is set again afterwards.

        Returns:
            The main route's metrics under their plain keys, then each route's under ``<route.log_name>/<key>``.
        """
        backbone = find_backbone(self.runner.model)
        self.costs = self.costs or self._measure_costs()
        self.routes, self.main_route = self._select(backbone.space, self.costs.gflops, backbone.trained_routes)
        self.sharing = SharedPrefixes(backbone, self.routes, self.main_route, self.memory_budget_mb, self.route_batch)
        results = self._open_results()
        with RankGroup() as ranks:
            metrics = self._evaluate(results, ranks)
            if is_main_process():
                by_id = {record.id: record for record in self.records}
                self.records = self._finish([by_id[route.id] for route in self.routes])
            ranks.wait()
        results.delete()
        return metrics

    def _evaluate(self, results: RouteResults, ranks: RankGroup) -> dict[str, float]:
        """Run MMEngine's own loop with the data set, evaluator and backbone that serve many routes."""
        model, evaluator, dataloader = unwrapped_model(self.runner), self.evaluator, self.dataloader
        backbone = find_backbone(model)
        route_before, known = backbone.route, self._known_records()
        self.records = list(known) if is_main_process() else []
        metrics = {backbone.space[record.id]: record.metrics for record in known}
        self.evaluator = RouteEvaluator(evaluator, results, self.main_route, self._report_route, metrics, ranks)
        steps = len(dataloader) * len(self.routes)
        steps_done = steps if len(known) == len(self.routes) else results.steps_done
        self._batches_done, self._routes_done = divmod(steps_done, len(self.routes))
        self.dataloader = checked_batches(dataloader, self._batches_done)
        self.progress.start(steps, steps_done)
        try:
            with self.sharing, preprocessed_once(model):
                return super().run()
        finally:
            self.progress.finish_steps()
            self.evaluator, self.dataloader = evaluator, dataloader
            backbone.set_route(route_before)

    @torch.no_grad()
    def run_iter(self, idx: int, batch: CheckedBatch) -> None:
        """Run all routes on one batch."""
        runner: Runner = self.runner
        routes_done, self._routes_done = self._routes_done, 0
        data_batch = self.readable(batch)
        if data_batch is None:
            self.evaluator.skip_batch(len(self.routes) - routes_done)
            return
        idx += self._batches_done
        runner.call_hook(f'before_{self.phase}_iter', batch_idx=idx, data_batch=data_batch)
        step = getattr(runner.model, f'{self.phase}_step')
        # A model writes its predictions into the batch's own samples: the main route comes last, and its stay there.
        for route in self.sharing.visit(routes_done):
            with mixed_precision(self.dtype, self.device):
                outputs = step(data_batch)
            self.evaluator.process(route, outputs, data_batch)
            self.progress.step()
        runner.call_hook(f'after_{self.phase}_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def readable(self, batch: CheckedBatch) -> Any:
        """What of a batch could be loaded; reports the rest, or stops at it."""
        for image in batch.unreadable:
            if not self.skip_unreadable:
                raise UserError(
                    f'cannot load image {image.path}: {image.reason}; restore it, or evaluate without such images: '
                    'skip_unreadable=True in the loop, --skip-unreadable of tools/benchmark.py'
                )
            self.progress.write(f'skipped image {image.path}: {image.reason}')
        return batch.data

    def _refuse_unknown_routes(self) -> None:
        """Stop a run before it trains, not at its first validation."""
        space = find_backbone(self.runner.model).space
        if isinstance(self.selection, str) and self.selection.startswith('budget:'):
            self.costs = self._measure_costs()
        # Which routes a selection without a budget names does not depend on costs. Those that are trained are not known
        # before a checkpoint is loaded.
        self._select(space, self.costs.gflops if self.costs else range(len(space)), range(len(space)))

    def _measure_costs(self) -> CostTable:
        return route_costs(unwrapped_model(self.runner), self.input_shape)

    def _select(
        self, space: StitchSpace, gflops: Sequence[float], trained: Collection[int] | None
    ) -> tuple[list[Route], Route]:
        """The routes to evaluate, and the main one."""
        routes = select_routes(space, self.selection, gflops, trained)
        if self.main_selection is not None:
            main = space.find(self.main_selection)
            return (routes if main in routes else [main, *routes]), main
        largest = space[len(space.depths) - 1]
        return routes, largest if largest in routes else max(routes, key=lambda route: gflops[route.id])

    def _open_results(self) -> RouteResults:
        """Where the results of this run go."""
        return RouteResults(self.sharing.routes, len(self.evaluator.metrics))

    def _known_records(self) -> list[Record]:
        """Records of routes that need not be evaluated again, alike on all ranks."""
        return []

    def _report_route(self, route: Route, metrics: dict[str, float], by_class: dict[str, dict[str, float]]) -> None:
        """Keep the record of a route whose metrics are known now."""
        if is_main_process():
            ids = find_backbone(self.runner.model).trained_routes
            trained = None if ids is None else route.id in ids
            record = Record.of(route, self.costs[route.id], metrics, by_class, self.provenance, trained)
            self.records.append(record)
            self.progress.write(format_record(record))

    def _finish(self, records: list[Record]) -> list[Record]:
        """The records of all routes, completed, on the main process."""
        return records
