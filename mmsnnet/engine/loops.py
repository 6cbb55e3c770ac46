"""Validation and test loops that evaluate many routes in one pass over the data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import Runner, TestLoop, ValLoop

from mmsnnet.engine.batches import CheckedBatch, checked_batches, preprocessed_once
from mmsnnet.engine.checks import warn_without_sampling
from mmsnnet.engine.progress import RoutesProgress
from mmsnnet.engine.runners import find_input_shape, refuse_strategies, unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.evaluation import (
    LatencyJob,
    LatencySetting,
    RouteEvaluator,
    RouteResults,
    SharedPrefixes,
    add_latency,
    choose_dtype,
    describe_run,
    format_record,
    mixed_precision,
    tested_settings,
    write_report,
)
from mmsnnet.evaluation.routes.route_results import FINISHED_FILE
from mmsnnet.evaluation.routes.shared_work import RankGroup
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.registry import LOOPS, register
from mmsnnet.stitching import CostTable, Record, Route, StitchSpace, read_records, select_routes, write_records
from mmsnnet.stitching.merging import is_of_run, merge_records
from mmsnnet.stitching.selection import RouteSelection

# In the output folder of a test, as long as it has not come to its end.
UNFINISHED_FOLDER = 'unfinished-mmsnnet-test'


class _RoutesLoop:
    """What both loops share. Each batch is read once, and every selected route runs on it, sharing what it can.

    Args:
        routes: ``'all'``, ``'anchors'``, a number of routes spread evenly over the cost range, or ids and names.
        main_route: whose metrics keep their plain keys and whose predictions hooks see; by default the largest anchor,
            or the dearest of the selected routes.
        input_shape: (height, width) at which costs are measured; by default that of the training images.
        dtype: one of ``DTYPES``, mixed precision below float32; MMEngine's ``fp16=True`` is ``dtype='float16'``.
        memory_budget_mb, route_batch: of ``SharedPrefixes``.
        skip_unreadable: evaluate without images that cannot be loaded, instead of stopping.
    """

    phase: str
    provenance: dict | None = None

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
        self.records: list[Record] = []
        self.progress = RoutesProgress(self.runner.logger.info)
        warn_without_sampling(self.runner)
        # An unknown route should stop a run before it trains, not at its first validation.
        space = find_backbone(self.runner.model).space
        only_costs_tell = isinstance(routes, str) and routes.startswith('budget:')
        self.costs = self._measure_costs() if only_costs_tell else None
        self._select(space, self.costs.gflops if self.costs else range(len(space)))

    def run(self) -> dict[str, float]:
        """Evaluate every selected route; the route set before is set again afterwards.

        Returns:
            The main route's metrics under their plain keys, then each route's under ``<route.log_name>/<key>``.
        """
        backbone = find_backbone(self.runner.model)
        self.costs = self.costs or self._measure_costs()
        self.routes, self.main_route = self._select(backbone.space, self.costs.gflops)
        self.sharing = SharedPrefixes(backbone, self.routes, self.main_route, self.memory_budget_mb, self.route_batch)
        results = self._open_results()
        with RankGroup() as ranks:
            metrics = self._evaluate(results, ranks)
            if is_main_process():
                self.records = [self._records[route.id] for route in self.routes]
                self._report()
            ranks.wait()
        results.delete()
        return metrics

    def _evaluate(self, results: RouteResults, ranks: RankGroup) -> dict[str, float]:
        """MMEngine's own loop, with the data set, evaluator and backbone that serve many routes."""
        model, evaluator, dataloader = unwrapped_model(self.runner), self.evaluator, self.dataloader
        backbone = find_backbone(model)
        route_before, known = backbone.route, self._known_records()
        self._records = {record.id: record for record in known}
        metrics = {backbone.space[record.id]: record.metrics for record in known}
        self.evaluator = RouteEvaluator(evaluator, results, self.main_route, self._report_route, metrics, ranks)
        if len(known) == len(self.routes):
            self._batches_done, self._skip = len(dataloader), 0
        else:
            self._batches_done, self._skip = divmod(results.steps_done, len(self.routes))
        self.dataloader = checked_batches(dataloader, self._batches_done)
        self.progress.start(len(dataloader) * len(self.routes), self._batches_done * len(self.routes) + self._skip)
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
        data_batch = self._readable(batch)
        if data_batch is None:
            self.evaluator.skip_batch(len(self.routes) - self._skip)
            self._skip = 0
            return
        idx += self._batches_done
        runner.call_hook(f'before_{self.phase}_iter', batch_idx=idx, data_batch=data_batch)
        step = getattr(runner.model, f'{self.phase}_step')
        # A model writes its predictions into the batch's own samples: the main route comes last, and its stay there.
        for route in self.sharing.visit(self._skip):
            with mixed_precision(self.dtype, self.device):
                outputs = step(data_batch)
            self.evaluator.process(route, outputs, data_batch)
            self.progress.step()
        self._skip = 0
        runner.call_hook(f'after_{self.phase}_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def _readable(self, batch: CheckedBatch) -> Any:
        """What of a batch could be loaded; refuses or tells the rest."""
        for image in batch.unreadable:
            if not self.skip_unreadable:
                raise UserError(
                    f'cannot load image {image.path}: {image.reason}; restore it, or evaluate without such images: '
                    'skip_unreadable=True in the loop, --skip-unreadable of tools/benchmark.py'
                )
            self.progress.write(f'skipped image {image.path}: {image.reason}')
        return batch.data

    def _measure_costs(self) -> CostTable:
        return route_costs(unwrapped_model(self.runner), self.input_shape)

    def _select(self, space: StitchSpace, gflops: Sequence[float]) -> tuple[list[Route], Route]:
        routes = select_routes(space, self.selection, gflops)
        if self.main_selection is not None:
            main = space.find(self.main_selection)
            return (routes if main in routes else [main, *routes]), main
        largest = space[len(space.depths) - 1]
        return routes, largest if largest in routes else max(routes, key=lambda route: gflops[route.id])

    def _open_results(self) -> RouteResults:
        return RouteResults(self.sharing.routes, len(self.evaluator.metrics))

    def _known_records(self) -> list[Record]:
        return []

    def _report_route(self, route: Route, metrics: dict[str, float], by_class: dict[str, dict[str, float]]) -> None:
        if is_main_process():
            record = Record.of(route, self.costs[route.id], metrics, by_class, self.provenance)
            self._records[route.id] = record
            self.progress.write(format_record(record))

    def _report(self) -> None:
        pass


@register(LOOPS)
class StitchValLoop(_RoutesLoop, ValLoop):
    """A ``ValLoop`` over routes; ``save_best='mIoU'`` means the main route's."""

    phase = 'val'


@register(LOOPS)
class StitchTestLoop(_RoutesLoop, TestLoop):
    """A ``TestLoop`` over routes, which also writes ``stitches.json`` and ``pareto.png``.

    Records that earlier tests of the same model, data and precision have written of other routes stay.

    Args:
        out_dir: where these go; by default the runner's log folder.
        resume: go on where an interrupted test with the same ``out_dir`` stopped.
        latency: also time the routes on the first rank: arguments of ``LatencySetting``, by default with the loop's
            ``input_shape`` and ``dtype``, and ``method``, ``'measure'`` (default) or ``'estimate'``.
        **kwargs: as ``StitchValLoop``'s.

    Attributes:
        write_report: takes all records of the output folder, and the folder.

    Raises:
        UserError: the evaluation to resume is of another run.
    """

    phase = 'test'

    def __init__(
        self, *args: Any, out_dir: str | None = None, resume: bool = False, latency: dict | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.out_dir = Path(out_dir or self.runner.log_dir)
        self.resume = resume
        self.latency = None if latency is None else self._latency_job(**latency)
        self.write_report: Callable[[list[Record], Path], Any] = write_report

    def _latency_job(self, method: str = 'measure', **setting: Any) -> LatencyJob:
        setting = LatencySetting(**{'input_shape': self.input_shape, 'dtype': self.dtype, **setting})
        # Now, rather than after the evaluation.
        setting.check(self.device)
        return LatencyJob(method, setting, self.out_dir / 'latency.json', self.resume)

    def _open_results(self) -> RouteResults:
        settings = {'route_batch': self.route_batch, 'skip_unreadable': self.skip_unreadable}
        self.provenance = describe_run(self.runner, self.input_shape, self.dtype, **settings)
        run = {
            **self.provenance,
            'settings': tested_settings(self.runner),
            'batches on the first rank': len(self.dataloader),
            'ranks': get_world_size(),
        }
        folder = self.out_dir / UNFINISHED_FOLDER
        return RouteResults(self.sharing.routes, len(self.evaluator.metrics), folder, run, self.resume)

    def _known_records(self) -> list[Record]:
        """What the interrupted test has finished: some routes, or all and the report."""
        known: list[Record] = []
        if self.resume and is_main_process():
            if self._finished_path.is_file():
                known = read_records(self._finished_path)
            else:
                known = [record for record in self._earlier_records() if is_of_run(record, self.provenance)]
        message = [known]
        broadcast_object_list(message)
        wanted = {route.id for route in self.routes}
        return [record for record in message[0] if record.id in wanted]

    def _report_route(self, *args: Any) -> None:
        super()._report_route(*args)
        if is_main_process():
            write_records(list(self._records.values()), self._finished_path)

    def _report(self) -> None:
        if self.latency:
            add_latency(self.records, unwrapped_model(self.runner), self.latency)
        earlier = self._earlier_records()
        merged = merge_records(earlier, self.records)
        self._tell_what_goes(earlier, merged)
        self.write_report(merged, self.out_dir)
        self.runner.logger.info(f'wrote the report to {self.out_dir}')

    def _earlier_records(self) -> list[Record]:
        path = self.out_dir / 'stitches.json'
        return read_records(path) if path.is_file() else []

    def _tell_what_goes(self, earlier: Sequence[Record], merged: Sequence[Record]) -> None:
        """Say so where records of another run, or times made in another way, make room."""
        others = sum(not is_of_run(record, self.provenance) for record in earlier)
        if others:
            self.runner.logger.warning(
                f'{self.out_dir / "stitches.json"} had {others} records of another model, data set, precision or '
                'machine: these records replace them'
            )
        timed = {record.id for record in earlier if record.latency_ms is not None}
        lost = [record.name for record in merged if record.id in timed and record.latency_ms is None]
        if lost and not others:
            self.runner.logger.warning(f'times of {len(lost)} stitches were made in another way, and are left out')

    @property
    def _finished_path(self) -> Path:
        return self.out_dir / UNFINISHED_FOLDER / FINISHED_FILE
