"""Metrics of depth, image by image."""

from collections.abc import Sequence
from typing import Any

from mmseg.evaluation import DepthMetric

from mmsnnet.errors import UserError
from mmsnnet.registry import METRICS, register
from mmsnnet.settings import check_list, check_word


@register(METRICS)
class LeanDepthMetric(DepthMetric):
    """MMSegmentation's ``DepthMetric``, with the same numbers, which keeps nine numbers of an image, not its pixels.

    All pixels of NYUv2's 654 test images take 1.2 GB, and a stitched model has one evaluation for every route. Metrics
    are computed in single precision, also where a model predicts in half precision.

    Args:
        depth_metrics: those to report, of ``DepthMetric.METRICS``; default: all.
        **kwargs: as ``DepthMetric``'s.

    Raises:
        ValueError: an unknown metric; while evaluating, an image without any depth to compare with.
    """

    def __init__(self, depth_metrics: Sequence[str] | None = None, **kwargs: Any) -> None:
        # MMSegmentation's own check of the names fails.
        super().__init__(**kwargs)
        names = self.METRICS if depth_metrics is None else check_list('depth_metrics', depth_metrics, "['rmse', 'd1']")
        self.metrics = [check_word('a depth metric', name, self.METRICS) for name in names]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the metrics of each image of a batch."""
        for sample in data_samples:
            # MMSegmentation rounds the truth to the precision of the prediction.
            metres = sample['pred_depth_map']['data'].float()
            super().process(data_batch, [{**sample, 'pred_depth_map': {'data': metres}}])
            if not self.format_only:
                self.results.append(self._of_image(*self.results.pop(), sample.get('img_path', 'an image')))

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """The mean of each metric over images."""
        if self.format_only:
            return {}
        return {name: sum(result[name] for result in results) / len(results) for name in self.metrics}

    def _of_image(self, truth: Any, prediction: Any, path: str) -> dict[str, float]:
        if not len(truth):
            raise UserError(
                f'{path} has no depth between {self.min_depth_eval:g} and {self.max_depth_eval:g} to compare with: '
                'check depth_rescale_factor of LoadDepthAnnotation, min_depth_eval and max_depth_eval'
            )
        return self._calc_all_metrics(truth, prediction)
