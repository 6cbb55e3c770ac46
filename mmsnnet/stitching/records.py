"""Records: one line of a benchmark each. What plots, tables and selection read, and what evaluation writes."""

import json
import os
from collections.abc import Sequence
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
        latency_ms: per image, None where not measured.
        memory_mb: peak, None where not measured.
    """

    id: int
    name: str
    kind: str
    gflops: float
    params_m: float
    metrics: dict[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    memory_mb: float | None = None

    @classmethod
    def of(cls, route: Route, cost: Cost, metrics: dict[str, float] | None = None) -> 'Record':
        # Metrics come as NumPy scalars, which JSON does not know: single precision in the decimals it was rounded to.
        metrics = {name: float(str(value)) for name, value in (metrics or {}).items()}
        return cls(route.id, route.name, route.kind, cost.gflops, cost.params_m, metrics)


def write_records(records: Sequence[Record], path: str | os.PathLike) -> Path:
    """Write a JSON list of records; unmeasured fields are left out. The file is never half written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{key: value for key, value in asdict(record).items() if value is not None} for record in records]
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(rows, indent=1) + '\n')
    return partial.replace(path)


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
