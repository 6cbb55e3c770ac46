"""A metric that leaves a note of each rank that computes it."""

from pathlib import Path

from mmengine.dist import get_rank
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class WitnessMetric(IoUMetric):
    """``IoUMetric`` that adds the rank to a file whenever it computes."""

    def __init__(self, notes: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.notes = Path(notes)

    def compute_metrics(self, results: list) -> dict[str, float]:
        with self.notes.open('a') as file:
            file.write(f'{get_rank()}\n')
        return super().compute_metrics(results)
