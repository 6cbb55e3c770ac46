"""Validation and test loops that evaluate many routes in one pass over the data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.runner.amp import autocast

from mmsnnet.engine.runners import find_input_shape, unwrapped_model
from mmsnnet.evaluation import RouteEvaluator, format_record, write_report
from mmsnnet.models import find_backbone, measure_costs
from mmsnnet.registry import LOOPS, register
from mmsnnet.stitching import Record, Route, StitchSpace, select_routes
from mmsnnet.stitching.selection import RouteSelection


class _RoutesLoop:
    """What both loops share. Each batch is loaded once, and every selected route runs on it.

    Args:
        routes: ``'all'``, ``'anchors'``, a number of routes spread evenly over the cost range, or ids and names.
        main_route: whose metrics keep their plain keys and whose predictions hooks see; by default the largest anchor,
            or the dearest of the selected routes.
        input_shape: (height, width) at which costs are measured; by default that of the training images.
        out_dir: where the report goes; by default the runner's log folder. None of it during training.
    """

    phase: str
    writes_report: bool

    def __init__(
        self,
        *args: Any,
        routes: RouteSelection = 'all',
        main_route: int | str | None = None,
        input_shape: Sequence[int] | None = None,
        out_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.selection = routes
        self.main_selection = main_route
        self.input_shape = input_shape
        self.out_dir = out_dir
        self.records: list[Record] = []
        # An unknown route should stop a run before it trains, not at its first validation.
        self._select(find_backbone(self.runner.model).space, None)

    def run(self) -> dict[str, float]:
        """Evaluate every selected route; the route set before is set again afterwards.

        Returns:
            The main route's metrics under their plain keys, then each route's under ``<route>/<key>``.
        """
        self.backbone = find_backbone(self.runner.model)
        model = unwrapped_model(self.runner)
        self.costs = measure_costs(model, self.input_shape or find_input_shape(self.runner))
        self.routes, self.main_route = self._select(self.backbone.space, self.costs.gflops)
        route_before, evaluator = self.backbone.route, self.evaluator
        self.evaluator = RouteEvaluator(evaluator, self.routes, self.main_route)
        try:
            metrics = super().run()
            self._report(self.evaluator.metrics)
        finally:
            self.evaluator = evaluator
            self.backbone.set_route(route_before)
        return metrics

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Run all routes on one batch."""
        runner: Runner = self.runner
        runner.call_hook(f'before_{self.phase}_iter', batch_idx=idx, data_batch=data_batch)
        step = getattr(runner.model, f'{self.phase}_step')
        # A model writes its predictions into the batch's own samples: the main route comes last, and its stay there.
        for route in sorted(self.routes, key=lambda route: route == self.main_route):
            self.backbone.set_route(route)
            with autocast(enabled=self.fp16):
                outputs = step(data_batch)
            self.evaluator.process(route, outputs, data_batch)
        runner.call_hook(f'after_{self.phase}_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def _select(self, space: StitchSpace, gflops: Sequence[float] | None) -> tuple[list[Route], Route]:
        # Before costs are known, any will do to check the selection.
        gflops = gflops if gflops is not None else list(range(len(space)))
        routes = select_routes(space, self.selection, gflops)
        if self.main_selection is not None:
            main = space.find(self.main_selection)
            return (routes if main in routes else [main, *routes]), main
        largest = space[len(space.depths) - 1]
        return routes, largest if largest in routes else max(routes, key=lambda route: gflops[route.id])

    def _report(self, metrics: dict[Route, dict[str, float]]) -> None:
        self.records = [Record.of(route, self.costs[route.id], metrics[route]) for route in self.routes]
        for record in self.records:
            self.runner.logger.info(format_record(record))
        if self.writes_report and is_main_process():
            out_dir = Path(self.out_dir or self.runner.log_dir)
            write_report(self.records, out_dir)
            self.runner.logger.info(f'wrote {out_dir / "stitches.json"} and {out_dir / "pareto.png"}')


@register(LOOPS)
class StitchValLoop(_RoutesLoop, ValLoop):
    """A ``ValLoop`` over routes; ``save_best='mIoU'`` means the main route's."""

    phase = 'val'
    writes_report = False


@register(LOOPS)
class StitchTestLoop(_RoutesLoop, TestLoop):
    """A ``TestLoop`` over routes, which also writes ``stitches.json`` and ``pareto.png``."""

    phase = 'test'
    writes_report = True
