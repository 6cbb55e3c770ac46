"""Records: one line of a benchmark each. What plots, tables and selection read, and what evaluation writes."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmsnnet.errors import UserError
from mmsnnet.files import write_json
from mmsnnet.stitching.cost import Cost
from mmsnnet.stitching.pareto import pareto_front
from mmsnnet.stitching.space import Route

# Fields of a record that are a cost: what a budget can be in, and a front be over.
COSTS = ('gflops', 'latency_ms', 'memory_mb', 'params_m')
# Metrics that are better when lower, by the last part of their name: errors of depth, and losses.
LOWER_IS_BETTER = ('rmse', 'rmse_log', 'abs_rel', 'sq_rel', 'log10', 'silog', 'loss')


@dataclass(frozen=True)
class Record:
    """A route, what it costs, and what it scores. ``dataclasses.replace`` makes one with other values.

    Attributes:
        gflops: for one image at the measured input size, by fvcore's convention.
        params_m: millions of parameters that the route needs at inference.
        metrics: as the evaluator names them; empty where nothing was evaluated.
        latency_ms: median per image, None where not measured.
        latency_iqr_ms: distance between the quartiles of what was measured.
        memory_mb: parameters and peak of the activations in MiB, None where not measured.
        classes: results by class, as ``{'IoU': {'sky': 91.2, ...}}``, where the evaluator has them.
        provenance: which model, data and versions the record comes from.
        trained: whether the training that made the model trained this route; None where this is unknown. The front and
            ``select`` go by numbers alone.
    """

    id: int
    name: str
    kind: str
    gflops: float
    params_m: float
    metrics: dict[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    latency_iqr_ms: float | None = None
    memory_mb: float | None = None
    classes: dict[str, dict[str, float]] | None = None
    provenance: dict | None = None
    trained: bool | None = None

    def score(self, metric: str) -> float:
        """What a metric says of the route, as a number of which higher is better: an error is negated."""
        return direction(metric) * self.metrics[metric]

    @classmethod
    def of(
        cls,
        route: Route | str,
        cost: Cost,
        metrics: dict[str, float] | None = None,
        classes: dict[str, dict[str, float]] | None = None,
        provenance: dict | None = None,
        trained: bool | None = None,
    ) -> 'Record':
        """A record of a route; or, by its name, of a model that is not stitched, such as an anchor trained alone."""
        identity = (0, route, 'anchor') if isinstance(route, str) else (route.id, route.name, route.kind)
        # Metrics come as NumPy scalars, which JSON does not know: single precision in the decimals it was rounded to.
        metrics = {name: float(str(value)) for name, value in (metrics or {}).items()}
        more = {'classes': classes or None, 'provenance': provenance, 'trained': trained}
        return cls(*identity, cost.gflops, cost.params_m, metrics, **more)


def direction(metric: str) -> int:
    """1 for a metric of which higher is better, -1 where lower is."""
    return -1 if metric.rpartition('/')[2].lower() in LOWER_IS_BETTER else 1


def main_metric(records: Sequence[Record]) -> str | None:
    """The metric to rank by: mIoU, a box AP or the RMSE of depth where there is one, else the first."""
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    preferred = [name for name in names if name == 'mIoU' or name.endswith('bbox_mAP') or name.endswith('rmse')]
    return next(iter(preferred + names), None)


def front_records(records: Sequence[Record], metric: str, cost: str = 'gflops') -> list[Record]:
    """Records on the Pareto front of a cost (see ``COSTS``) and ``metric``, by rising cost.

    Raises:
        ValueError: a record lacks the cost or the metric.
    """
    for record in records:
        if getattr(record, cost) is None:
            raise UserError(f'route {record.name} has no {cost}: measure it with tools/benchmark.py --latency')
        if metric not in record.metrics:
            raise UserError(f'route {record.name} has no metric {metric!r}, it has {sorted(record.metrics)}')
    front = pareto_front([getattr(record, cost) for record in records], [record.score(metric) for record in records])
    return [records[index] for index in front]


def write_records(records: Sequence[Record], path: str | os.PathLike) -> Path:
    """Write a JSON list of records. The file is never half written.

    Unmeasured fields are left out. A metric that is not finite is null.

    Raises:
        OSError: the file cannot be written; what it held before is still there.
    """
    rows = [{key: value for key, value in asdict(record).items() if value is not None} for record in records]
    return write_json(Path(path), rows)


def read_records(path: str | os.PathLike) -> list[Record]:
    """Records of a JSON file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no list of records.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no records at {path}: write them with tools/benchmark.py or tools/test.py')
    try:
        return [_from_json(row) for row in json.loads(path.read_text())]
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f'{path} is no list of records: {error}') from error


def _from_json(row: dict) -> Record:
    """A record of its JSON, in which null is a metric that is not finite."""
    fields = {'metrics': {}, **row}
    metrics = {name: math.nan if value is None else value for name, value in fields.pop('metrics').items()}
    return Record(**fields, metrics=metrics)
