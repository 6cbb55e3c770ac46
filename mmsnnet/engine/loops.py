"""Validation and test loops that evaluate many routes in one pass over the data."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.runner import TestLoop, ValLoop

from mmsnnet.engine.routes_loop import RoutesLoop
from mmsnnet.engine.runners import unwrapped_model
from mmsnnet.evaluation import (
    LatencyJob,
    LatencySetting,
    RouteResults,
    describe_run,
    tested_settings,
    with_latency,
    write_report,
)
from mmsnnet.evaluation.routes.route_results import FINISHED_FILE
from mmsnnet.registry import LOOPS, register
from mmsnnet.settings import check_word
from mmsnnet.stitching import Record, read_records, write_records
from mmsnnet.stitching.merging import is_of_run, merge_records

# In the output folder of a test, as long as it has not come to its end.
UNFINISHED_FOLDER = 'unfinished-mmsnnet-test'


@register(LOOPS)
class StitchValLoop(RoutesLoop, ValLoop):
    """A ``ValLoop`` over routes; ``save_best='mIoU'`` means the main route's. For arguments see ``RoutesLoop``."""

    phase = 'val'


@register(LOOPS)
class StitchTestLoop(RoutesLoop, TestLoop):
    """A ``TestLoop`` over routes, which also writes ``stitches.json`` and ``pareto.png``.

    Records that earlier tests of the same model, data and precision have written of other routes stay.

    Args:
        out_dir: where these go; by default the runner's log folder.
        resume: resume an interrupted test with the same ``out_dir``.
        latency: also time the routes on the first rank: arguments of ``LatencySetting``, by default with the loop's
            ``input_shape`` and ``dtype``, and ``method``, ``'measure'`` (default) or ``'estimate'``.
        **kwargs: of ``RoutesLoop``.

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
        names = [field.name for field in fields(LatencySetting)]
        for name in setting:
            check_word('a key of latency', name, ('method', *names))
        setting = LatencySetting(**{'input_shape': self.input_shape, 'dtype': self.dtype, **setting})
        # Now, rather than after the evaluation.
        setting.check(self.device)
        return LatencyJob(method, setting, self.out_dir / 'latency.json', self.resume)

    def _open_results(self) -> RouteResults:
        """Results on disk, where a resumed test finds them."""
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
        """Keep the record also on disk, where a resumed test finds it."""
        super()._report_route(*args)
        if is_main_process():
            write_records(self.records, self._finished_path)

    def _finish(self, records: list[Record]) -> list[Record]:
        """Time the routes if asked to, and write the report."""
        if self.latency:
            records = with_latency(records, unwrapped_model(self.runner), self.latency)
        earlier = self._earlier_records()
        merged = merge_records(earlier, records)
        self._warn_of_losses(earlier, merged)
        self.write_report(merged, self.out_dir)
        self.runner.logger.info(f'wrote the report to {self.out_dir}')
        return records

    def _earlier_records(self) -> list[Record]:
        """What the output folder holds from before."""
        path = self.out_dir / 'stitches.json'
        return read_records(path) if path.is_file() else []

    def _warn_of_losses(self, earlier: Sequence[Record], merged: Sequence[Record]) -> None:
        """Warn that the report leaves out records of another run, or times that were measured in another way."""
        others = sum(not is_of_run(record, self.provenance) for record in earlier)
        if others:
            self.runner.logger.warning(
                f'{self.out_dir / "stitches.json"} had {others} records of another model, data set, precision or '
                'machine: these records replace them'
            )
        timed = {record.id for record in earlier if record.latency_ms is not None}
        lost = [record.name for record in merged if record.id in timed and record.latency_ms is None]
        if lost and not others:
            self.runner.logger.warning(f'the times of {len(lost)} routes were measured in another way: left out')

    @property
    def _finished_path(self) -> Path:
        return self.out_dir / UNFINISHED_FOLDER / FINISHED_FILE
