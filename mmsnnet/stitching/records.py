"""Records: one line of a benchmark each. What plots, tables and selection read, and what evaluation writes."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmsnnet.stitching.cost import Cost
from mmsnnet.stitching.space import Route


@dataclass
class Record:
    """A route, what it costs, and what it scores.

    Attributes:
        gflops: for one image at the measured input size, by fvcore's convention.
        params_m: millions of parameters that the route needs at inference.
        metrics: as the evaluator names them; empty where nothing was evaluated.
        classes: results by class, as ``{'IoU': {'sky': 91.2, ...}}``, where the evaluator has them.
        latency_ms: per image, None where not measured.
        memory_mb: peak, None where not measured.
        provenance: which model, data and versions the record comes from.
    """

    id: int
    name: str
    kind: str
    gflops: float
    params_m: float
    metrics: dict[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    memory_mb: float | None = None
    classes: dict[str, dict[str, float]] | None = None
    provenance: dict | None = None

    @classmethod
    def of(
        cls,
        route: Route,
        cost: Cost,
        metrics: dict[str, float] | None = None,
        classes: dict[str, dict[str, float]] | None = None,
    ) -> 'Record':
        # Metrics come as NumPy scalars, which JSON does not know: single precision in the decimals it was rounded to.
        metrics = {name: float(str(value)) for name, value in (metrics or {}).items()}
        return cls(route.id, route.name, route.kind, cost.gflops, cost.params_m, metrics, classes=classes or None)


def write_records(records: Sequence[Record], path: str | os.PathLike) -> Path:
    """Write a JSON list of records; unmeasured fields are left out. The file is never half written."""
    rows = [{key: value for key, value in asdict(record).items() if value is not None} for record in records]
    return write_file(Path(path), lambda partial: partial.write_text(json.dumps(rows, indent=1) + '\n'))


def write_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file beside ``path``, then put it in place: ``path`` is never half written.

    Raises:
        OSError: the file cannot be written, the disk is full for instance; what ``path`` held before is still there.
    """
    partial = path.with_name(path.name + '.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        return partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        reason = error.strerror or error
        raise OSError(error.errno, f'cannot write {path}: {reason}; what was there before is unchanged') from error


def read_records(path: str | os.PathLike) -> list[Record]:
    """Records of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no list of records.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no records at {path}: write them with tools/test.py or tools/flops.py')
    try:
        return [Record(**row) for row in json.loads(path.read_text())]
    except (TypeError, ValueError) as error:
        raise ValueError(f'{path} is no list of records: {error}') from error
