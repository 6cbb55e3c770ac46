"""Which route to show for what a visitor wants to spend."""

from collections.abc import Sequence
from math import ceil, floor, log10

from mmsnnet.errors import UserError
from mmsnnet.evaluation.reports.plots import COST_LABELS
from mmsnnet.stitching import BudgetTable, Record, front_records

UNITS = {'gflops': 'GFLOPs', 'latency_ms': 'ms', 'params_m': 'M parameters', 'memory_mb': 'MiB'}


class Choices:
    """The routes of a benchmark.

    Args:
        records: of one benchmark.
        metric: to rank by; by default mIoU, a box AP or the RMSE of depth.

    Attributes:
        costs: those that a budget can be in, because all routes have them.
        largest: the record that others are compared with.

    Raises:
        ValueError: no records, or none with the metric.
    """

    def __init__(self, records: Sequence[Record], metric: str | None = None) -> None:
        self.table = BudgetTable(records, metric)
        self.records = {record.id: record for record in records}
        self.metric = self.table.metric
        self.costs = [cost for cost in COST_LABELS if all(getattr(record, cost) is not None for record in records)]
        anchors = [record for record in records if record.kind == 'anchor']
        self.largest = max(anchors or records, key=lambda record: record.gflops)

    def limits(self, cost: str) -> tuple[float, float]:
        """The least and the most that routes on the front of a cost need."""
        front = front_records(list(self.records.values()), self.metric, cost)
        return getattr(front[0], cost), getattr(front[-1], cost)

    def slider(self, cost: str, record: Record | None = None) -> dict[str, float]:
        """Range, step and value of a slider over the front of a cost, in round numbers.

        Args:
            record: what the value is to pay for; by default the most expensive route on the front.
        """
        low, high = self.limits(cost)
        step = 10.0 ** floor(log10((high - low) / 100)) if high > low else 1.0
        value = high if record is None else min(max(getattr(record, cost), low), high)
        range_ = {'minimum': floor(low / step), 'maximum': ceil(high / step), 'value': ceil(value / step)}
        return {'step': step} | {name: round(steps * step, 12) for name, steps in range_.items()}

    def best(self, cost: str, budget: float) -> Record:
        """The best route within a budget; the cheapest one for less than any needs."""
        return self.table.best(**{cost: max(budget, self.limits(cost)[0])})

    def check_space(self, num_routes: int) -> None:
        """Raise ValueError if these records are of a model with fewer routes."""
        strange = [record.id for record in self.records.values() if record.id >= num_routes]
        if strange:
            raise UserError(f'the records name route {strange[0]}, and this model has routes 0 to {num_routes - 1}')

    def describe(self, record: Record) -> str:
        """A record's costs and what it scored."""
        costs = [f'{getattr(record, cost):.4g} {UNITS[cost]}' for cost in self.costs]
        return ', '.join([f'{self.metric} {record.metrics[self.metric]:.4g}', *costs])
