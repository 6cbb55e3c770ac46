"""What metrics collected of many routes: on disk, so that it neither fills the memory nor gets lost."""

import json
import pickle
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.evaluator.metric import _to_cpu

from mmsnnet.errors import UserError
from mmsnnet.stitching import Route
from mmsnnet.stitching.records import write_file


class RouteResults:
    """Results of every metric for every route, in the order in which images came.

    A *step* is one route on one batch; steps go through all routes of a batch, then to the next batch. Every rank
    writes its own chunks, each a complete file with the steps it covers in its name: whatever kills the process, all
    but the last seconds are there.

    Args:
        routes: in the order of a batch's steps.
        num_metrics: of the evaluator.
        folder: where chunks go; by default a temporary one.
        run: what makes results comparable (routes, images, checkpoint, ...), as JSON can tell it.
        resume: go on from the chunks in ``folder``, otherwise they are deleted.

    Attributes:
        flush_seconds: time after which results go to disk.
        steps_done: by this rank, in chunks and in memory.

    Raises:
        ValueError: the chunks to resume from are of another run.
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
            _prepare(folder, {**(run or {}), 'routes': [route.name for route in routes]}, resume)
            self._chunks = _find_chunks(folder)
        self.steps_done = _stop(self._chunks[-1]) if self._chunks else 0
        self._flushed_steps, self._flushed_at = self.steps_done, time.monotonic()

    def lists(self, route: Route) -> list[list]:
        """One list per metric, to add a route's results of the current batch to."""
        return self._open[route]

    def step_done(self) -> None:
        """Count a step; write to disk what is due."""
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
        for part in (*(self._read(path, route) for path in self._chunks), self._open[route]):
            for whole, piece in zip(results, part, strict=True):
                whole += piece
        return results

    def delete(self) -> None:
        """Delete the chunks of all ranks."""
        barrier()
        if self.folder is not None and is_main_process():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _empty(self) -> list[list]:
        return [[] for _ in range(self.num_metrics)]

    def _write_chunk(self, path: Path) -> None:
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as file:
            for route, lists in self._open.items():
                file.writestr(route.name, pickle.dumps(_to_cpu(lists)))

    @staticmethod
    def _read(path: Path, route: Route) -> list[list]:
        with zipfile.ZipFile(path) as file:
            return pickle.loads(file.read(route.name))


def _prepare(folder: Path, run: dict[str, Any], resume: bool) -> None:
    """Make the folder ready for a run, or check that it holds what this run has begun."""
    path = folder / 'run.json'
    if resume and path.is_file():
        begun = json.loads(path.read_text())
        for key in run.keys() | begun.keys():
            if run.get(key) != begun.get(key):
                raise UserError(
                    f'cannot resume from {folder}: {key} was {_short(begun.get(key))}, now it is '
                    f'{_short(run.get(key))}; start over without resuming, or take another output folder'
                )
    elif is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
        write_file(path, lambda partial: partial.write_text(json.dumps(run, indent=1)))
    barrier()


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


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
