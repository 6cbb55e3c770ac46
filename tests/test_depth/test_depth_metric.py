"""``LeanDepthMetric`` gives the numbers of MMSegmentation's ``DepthMetric``, and keeps few of them."""

import pytest
import torch
from mmseg.evaluation import DepthMetric

from mmsnnet.depth import LeanDepthMetric
from mmsnnet.errors import UserError
from mmsnnet.stitching import direction


def samples(count: int, seed: int) -> list[dict]:
    """Depths of 0 to 11, where 0 is not measured, and predictions around them."""
    generator = torch.Generator().manual_seed(seed)
    truths = torch.rand(count, 1, 480, 640, generator=generator) * 11
    truths[truths < 1] = 0
    predictions = (truths + torch.randn(truths.shape, generator=generator) * 0.5).clamp(min=0.1)
    return [
        dict(img_path=f'{index}.png', gt_depth_map=dict(data=truth), pred_depth_map=dict(data=prediction))
        for index, (truth, prediction) in enumerate(zip(truths, predictions, strict=True))
    ]


def evaluated(metric: DepthMetric) -> dict[str, float]:
    for seed, count in enumerate((2, 1, 2)):
        metric.process({}, samples(count, seed))
    return metric.evaluate(size=5)


@pytest.mark.parametrize(
    'settings', [{}, dict(min_depth_eval=1e-3, max_depth_eval=10.0, crop_type='nyu_crop')], ids=str
)
def test_numbers_are_mmsegmentation_s(settings):
    expected, ours = evaluated(DepthMetric(**settings)), evaluated(LeanDepthMetric(**settings))
    assert ours == pytest.approx(expected, rel=1e-6)
    assert len(ours) == 9
    assert [name for name in ours if direction(name) > 0] == ['d1', 'd2', 'd3']


def test_keeps_nothing_of_the_pixels():
    metric = LeanDepthMetric()
    metric.process({}, samples(2, 0))
    assert [len(result) for result in metric.results] == [9, 9]
    assert all(type(value) is float for result in metric.results for value in result.values())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_of_predictions_is_not_that_of_metrics(dtype, tmp_path):
    """MMSegmentation rounds the truth to it, and NumPy does not know bfloat16."""
    half, single = samples(2, 0), samples(2, 0)
    for rounded, wide in zip(half, single, strict=True):
        rounded['pred_depth_map'] = dict(data=wide['pred_depth_map']['data'].to(dtype))
        wide['pred_depth_map'] = dict(data=rounded['pred_depth_map']['data'].float())
    metrics = [LeanDepthMetric(output_dir=str(tmp_path)) for _ in range(2)]
    for metric, given in zip(metrics, (half, single), strict=True):
        metric.process({}, given)
    assert metrics[0].results == metrics[1].results
    assert half[0]['pred_depth_map']['data'].dtype == dtype


def test_reports_the_metrics_that_are_asked_for():
    assert list(evaluated(LeanDepthMetric(['rmse', 'd1']))) == ['rmse', 'd1']
    with pytest.raises(UserError, match=r"a depth metric must be one of 'd1', .*, got 'a1'"):
        LeanDepthMetric(['a1'])


def test_refuses_an_image_without_depth():
    (sample,) = samples(1, 0)
    sample['gt_depth_map']['data'].zero_()
    with pytest.raises(UserError, match=r'0\.png has no depth between 0\.001 and 10 to compare with'):
        LeanDepthMetric(min_depth_eval=1e-3, max_depth_eval=10.0).process({}, [sample])
