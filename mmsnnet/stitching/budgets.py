"""Which route to run within a budget."""

from collections import deque
from collections.abc import Sequence
from math import inf, isfinite, log
from operator import le

from mmsnnet.errors import UserError
from mmsnnet.stitching.records import COSTS, Record, direction, front_records, main_metric


def select(
    records: Sequence[Record],
    *,
    metric: str | None = None,
    min_metric: float | None = None,
    **budgets: float,
) -> Record:
    """The best record within all budgets, or with ``min_metric`` the cheapest one that scores as much.

    ```python
    select(records, latency_ms=20)
    select(records, gflops=100, memory_mb=500)
    select(records, min_metric=45)                   # the fewest GFLOPs
    select(records, min_metric=45, latency_ms=30)    # the fastest, if it keeps the budget
    ```

    Args:
        records: of one benchmark.
        metric: to rank by; by default mIoU, a box AP or the RMSE of depth.
        min_metric: what the record has to score; of an error, the most that it may be.
        **budgets: the most it may cost in ``gflops``, ``latency_ms`` (an image), ``memory_mb``, ``params_m``.

    Raises:
        ValueError: nothing given, nothing measured, or no record fits; the nearest one is named.
    """
    metric = metric or main_metric(records)
    _check(records, metric, min_metric, budgets)
    scored = [record for record in records if isfinite(record.metrics[metric])]
    fitting = [record for record in scored if all(getattr(record, cost) <= most for cost, most in budgets.items())]
    if min_metric is None:
        best = max(fitting, key=lambda record: (record.score(metric), -record.gflops), default=None)
    else:
        cost = next(iter(budgets), 'gflops')
        wanted = direction(metric) * min_metric
        enough = [record for record in fitting if record.score(metric) >= wanted]
        best = min(enough, key=lambda record: (getattr(record, cost), -record.score(metric)), default=None)
    if best is None:
        raise UserError(_nearest(scored, metric, min_metric, budgets))
    return best


class BudgetTable:
    """``select`` for budgets in a few microseconds: records that no budget would choose are left out beforehand.

    Args:
        records: of one benchmark.
        metric: to rank by; by default mIoU, a box AP or the RMSE of depth.
    """

    def __init__(self, records: Sequence[Record], metric: str | None = None) -> None:
        self.records = list(records)
        self.metric = metric or main_metric(self.records)
        self._costs = [cost for cost in COSTS if all(getattr(record, cost) is not None for record in self.records)]
        _check(self.records, self.metric, None, dict.fromkeys(self._costs, 0.0))
        scored = [record for record in self.records if isfinite(record.metrics[self.metric])]
        self._candidates: list[tuple[Record, tuple[float, ...]]] = []
        # Best first: a record is of use if it is cheaper in something than each of those before it.
        for record in sorted(scored, key=lambda record: (-record.score(self.metric), record.gflops)):
            costs = tuple(getattr(record, cost) for cost in self._costs)
            if not any(all(map(le, better, costs)) for _, better in self._candidates):
                self._candidates.append((record, costs))

    def best(self, **budgets: float) -> Record:
        """The best record within all budgets, as ``select`` finds it."""
        if budgets.keys() <= set(self._costs):
            limits = [budgets.get(cost, inf) for cost in self._costs]
            for record, costs in self._candidates if budgets else ():
                if all(map(le, costs, limits)):
                    return record
        # No record fits: ``select`` explains why.
        return select(self.records, metric=self.metric, **budgets)


class BudgetController:
    """Holds a frame rate on a device whose speed changes, by moving along the front of latency and metric.

    ```python
    controller = BudgetController(records, target_ms=40)
    for frame in video:
        backbone.set_route(controller.record.id)
        ...
        controller.update(milliseconds_of_this_frame)
    ```

    A frame that is slower than the target shows how much slower the device is than when it was benchmarked. The best
    route that is fast enough at that speed runs next. A better route runs again after ``patience`` frames in a row that
    leave ``headroom``, so that a load near a limit does not cause frequent switches.

    Args:
        records: with ``latency_ms``.
        target_ms: the most a frame should take.
        metric: to rank by; by default mIoU, a box AP or the RMSE of depth.
        headroom: share of the target that a better route must leave free.
        patience: frames before moving up.
        overhead_ms: what a frame takes beside what was benchmarked, such as loading it and painting the result.

    Attributes:
        record: the route to run next.
    """

    def __init__(
        self,
        records: Sequence[Record],
        target_ms: float,
        metric: str | None = None,
        headroom: float = 0.1,
        patience: int = 10,
        overhead_ms: float = 0.0,
    ) -> None:
        if target_ms <= 0:
            raise UserError(f'target_ms must be above 0, got {target_ms}')
        if overhead_ms < 0:
            raise UserError(f'overhead_ms must be 0 or more, got {overhead_ms}')
        if not 0 <= headroom < 1:
            raise UserError(f'headroom is a share from 0 to below 1, got {headroom}')
        metric = metric or main_metric(records)
        _check(records, metric, None, {'latency_ms': target_ms})
        self.front = front_records(records, metric, 'latency_ms')
        self.target_ms = target_ms
        self.headroom = headroom
        self.overhead_ms = overhead_ms
        # log(time taken / time benchmarked) of each frame; the slowest frame of a window counts.
        self._slowness: deque[float] = deque(maxlen=patience)
        self.record = self._best(0.0, target_ms)

    def update(self, frame_ms: float) -> Record:
        """Take note of how long a frame took with ``record``; returns the record to run next.

        Raises:
            ValueError: a time that is not above 0.
        """
        if not frame_ms > 0:
            raise UserError(f'frame_ms must be above 0, got {frame_ms}')
        self._slowness.append(log(frame_ms / self._expected_ms(self.record)))
        if frame_ms > self.target_ms:
            self._move(self._best(self._slowness[-1], self.target_ms))
        elif len(self._slowness) == self._slowness.maxlen:
            better = self._best(max(self._slowness), self.target_ms * (1 - self.headroom))
            if better.latency_ms > self.record.latency_ms:
                self._move(better)
        return self.record

    def _best(self, slowness: float, limit_ms: float) -> Record:
        """The best record within a limit on a device that much slower, or the fastest one."""
        allowed = log(limit_ms) - slowness
        fitting = [record for record in self.front if log(self._expected_ms(record)) <= allowed]
        return fitting[-1] if fitting else self.front[0]

    def _expected_ms(self, record: Record) -> float:
        """What a frame takes on the device as it was benchmarked."""
        return record.latency_ms + self.overhead_ms

    def _move(self, record: Record) -> None:
        if record is not self.record:
            self.record = record
            self._slowness.clear()


def _check(records: Sequence[Record], metric: str | None, min_metric: float | None, budgets: dict[str, float]) -> None:
    if not records:
        raise UserError('no records to select from')
    if not budgets and min_metric is None:
        raise UserError(f'give a budget ({", ".join(COSTS)}) or min_metric')
    for cost in budgets:
        if cost not in COSTS:
            raise UserError(f'unknown budget {cost!r}: choose from {", ".join(COSTS)}')
    if metric is None:
        raise UserError('these records have no metric: write them with tools/benchmark.py or tools/test.py')
    for record in records:
        if metric not in record.metrics:
            raise UserError(f'route {record.name} has no metric {metric!r}, it has {sorted(record.metrics)}')
        for cost in budgets:
            if getattr(record, cost) is None:
                raise UserError(f'route {record.name} has no {cost}: measure it with tools/benchmark.py --latency')


def _nearest(records: Sequence[Record], metric: str, min_metric: float | None, budgets: dict[str, float]) -> str:
    """What to say where no record fits."""
    wanted = [f'{cost} <= {most:g}' for cost, most in budgets.items()]
    if min_metric is not None:
        wanted.append(f'{metric} {">=" if direction(metric) > 0 else "<="} {min_metric:g}')
    if not records:
        return f'no route has {" and ".join(wanted)}: no record has a valid {metric}'

    def excess(record: Record) -> float:
        over = [getattr(record, cost) / most if most > 0 else float('inf') for cost, most in budgets.items()]
        if min_metric is not None:
            value = record.metrics[metric]
            high, low = (min_metric, value) if direction(metric) > 0 else (value, min_metric)
            over.append(high / low if low > 0 else float('inf'))
        return max(over)

    nearest = min(records, key=excess)
    has = ', '.join(
        [*(f'{cost} {getattr(nearest, cost):.4g}' for cost in budgets), f'{metric} {nearest.metrics[metric]:.4g}']
    )
    return f'no route has {" and ".join(wanted)}; the nearest is {nearest.name} (id {nearest.id}): {has}'
