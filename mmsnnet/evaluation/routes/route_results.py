"""What metrics collect for many routes. It goes to disk, so that it neither fills the memory nor gets lost."""

import json
import re
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_rank, is_main_process

from mmsnnet.errors import UserError
from mmsnnet.evaluation.routes.plain_data import from_bytes, to_bytes
from mmsnnet.evaluation.run_identity import as_json, differences, tell_differences
from mmsnnet.files import write_file, write_json
from mmsnnet.stitching import Route

RUN_FILE, FINISHED_FILE = 'run.json', 'finished.json'
# The files that a run writes into its folder. We delete no others.
_OWN_FILE = re.compile(rf'(partial-)?({RUN_FILE}|{FINISHED_FILE}|rank\d+_\d+-\d+\.zip)')


class RouteResults:
    """Results of every metric for every route, in the order in which images came.

    A *step* is one route on one batch. Steps cover all routes of a batch, then those of the next batch. Every rank
    writes its own chunks, each a complete file named after the steps it covers. A killed process loses only the last
    seconds.

    Args:
        routes: in the order of a batch's steps.
        num_metrics: of the evaluator.
        folder: where chunks go; by default a temporary one.
        run: what makes results comparable (model, data, precision, ...), in types that JSON has.
        resume: continue from the chunks in ``folder``. Otherwise they are deleted; other files there stay.

    Attributes:
        flush_seconds: time after which results go to disk.
        steps_done: by this rank, in chunks and in memory.

    Raises:
        UserError: the chunks to resume from are of another run, or a metric collects something else than plain data.
    """

    flush_seconds = 20.0

    def __init__(
        self,
        routes: Sequence[Route],
        num_metrics: int,
        folder: Path | None = None,
        run: dict[str, Any] | None = None,
        resume: bool = False,
    ) -> None:
        self.routes = list(routes)
        self.num_metrics = num_metrics
        self.folder = folder
        self._temporary: tempfile.TemporaryDirectory | None = None
        self._open: dict[Route, list[list]] = {route: self._empty() for route in routes}
        self._chunks: list[Path] = []
        if folder is not None:
            _prepare(folder, as_json({**(run or {}), 'routes': [route.name for route in routes]}), resume)
            self._chunks = _find_chunks(folder)
        self.steps_done = _stop(self._chunks[-1]) if self._chunks else 0
        self._flushed_steps, self._flushed_at = self.steps_done, time.monotonic()

    def lists(self, route: Route) -> list[list]:
        """One list per metric, to add a route's results of the current batch to."""
        return self._open[route]

    def step_done(self) -> None:
        """Count a step, and write to disk when it is time to."""
        self.steps_done += 1
        if time.monotonic() - self._flushed_at >= self.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory to a chunk."""
        if self.steps_done == self._flushed_steps:
            return
        if self.folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix='mmsnnet-')
            self.folder = Path(self._temporary.name)
        path = self.folder / f'rank{get_rank()}_{self._flushed_steps:09d}-{self.steps_done:09d}.zip'
        write_file(path, self._write_chunk)
        self._chunks.append(path)
        self._open = {route: self._empty() for route in self._open}
        self._flushed_steps, self._flushed_at = self.steps_done, time.monotonic()

    def load(self, route: Route) -> list[list]:
        """All results of a route, one list per metric."""
        results = self._empty()
        # What is still in memory is converted, too, so that results do not depend on when they went to disk.
        for part in (*(self._read(path, route) for path in self._chunks), from_bytes(to_bytes(self._open[route]))):
            for whole, piece in zip(results, part, strict=True):
                whole += piece
        return results

    def delete(self) -> None:
        """Delete what all ranks have written. Call it when no rank needs it any more."""
        if self._temporary is not None:
            self._temporary.cleanup()
        elif self.folder is not None and is_main_process():
            _delete_own_files(self.folder)

    def _empty(self) -> list[list]:
        return [[] for _ in range(self.num_metrics)]

    def _write_chunk(self, path: Path) -> None:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for route, lists in self._open.items():
                file.writestr(route.name, to_bytes(lists))

    @staticmethod
    def _read(path: Path, route: Route) -> list[list]:
        with zipfile.ZipFile(path) as file:
            return from_bytes(file.read(route.name))


def _prepare(folder: Path, run: dict[str, Any], resume: bool) -> None:
    """Make the folder ready for a run, or check that this run may resume what it holds."""
    path = folder / RUN_FILE
    if resume and path.is_file():
        found = list(differences(json.loads(path.read_text()), run))
        if found:
            raise UserError(
                f'cannot resume the evaluation in {folder}: {tell_differences(found)}. Start over without resuming, or '
                'take another output folder'
            )
    elif is_main_process():
        _delete_own_files(folder)
        write_json(path, run)
    barrier()


def _delete_own_files(folder: Path) -> None:
    """Delete what a run has written, and the folder if nothing else is in it."""
    for path in folder.glob('*'):
        if _OWN_FILE.fullmatch(path.name):
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _find_chunks(folder: Path) -> list[Path]:
    """This rank's chunks in order, up to the first gap; deletes those beyond."""
    chunks: list[Path] = []
    for path in sorted(folder.glob(f'rank{get_rank()}_*.zip')):
        if _start(path) == (_stop(chunks[-1]) if chunks else 0):
            chunks.append(path)
        else:
            path.unlink()
    return chunks


def _start(chunk: Path) -> int:
    return int(chunk.stem.split('_')[1].split('-')[0])


def _stop(chunk: Path) -> int:
    return int(chunk.stem.split('-')[1])
