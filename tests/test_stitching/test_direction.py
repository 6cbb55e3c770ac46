"""Law 14: a metric has a direction; selection, budgets and fronts of an error are those of its negative."""

import dataclasses
import math

import pytest

from mmsnnet.errors import UserError
from mmsnnet.stitching import BudgetController, BudgetTable, Record, direction, front_records, main_metric, select

ERRORS = [(10, 0.52), (20, 0.45), (20, 0.47), (30, 0.46), (50, 0.40), (60, math.nan)]
RECORDS = [
    Record(id_, f'r{id_}', 'SL', gflops, gflops / 2, {'a1': 0.8, 'rmse': error, 'quality': -error}, gflops / 4)
    for id_, (gflops, error) in enumerate(ERRORS)
]


@pytest.mark.parametrize(
    ('metric', 'expected'),
    [
        ('mIoU', 1),
        ('a1', 1),
        ('accuracy/top1', 1),
        ('coco/bbox_mAP', 1),
        ('rmse', -1),
        ('NYU/abs_rel', -1),
        ('RMSE', -1),
    ],
)
def test_direction(metric, expected):
    assert direction(metric) == expected


def test_depth_ranks_by_its_error():
    assert main_metric(RECORDS) == 'rmse'


def test_the_front_of_an_error_is_that_of_its_negative():
    assert [record.id for record in front_records(RECORDS, 'rmse')] == [0, 1, 4]
    assert front_records(RECORDS, 'rmse') == front_records(RECORDS, 'quality')


@pytest.mark.parametrize(
    'budget', [{'gflops': 10}, {'gflops': 49.9}, {'gflops': 1000}, {'latency_ms': 8}, {'gflops': 30, 'params_m': 10}]
)
def test_budgets_buy_the_least_error(budget):
    expected = select(RECORDS, metric='quality', **budget)
    assert select(RECORDS, **budget) == BudgetTable(RECORDS).best(**budget) == expected


@pytest.mark.parametrize(('most', 'id_'), [(0.6, 0), (0.47, 1), (0.44, 4)])
def test_min_metric_is_the_most_that_an_error_may_be(most, id_):
    assert select(RECORDS, min_metric=most).id == select(RECORDS, metric='quality', min_metric=-most).id == id_


def test_says_what_comes_nearest_to_an_error():
    with pytest.raises(UserError, match=r'no route has rmse <= 0\.3; the nearest is r4 \(id 4\): rmse 0\.4'):
        select(RECORDS, min_metric=0.3)


def test_a_controller_moves_along_the_front_of_an_error():
    valid = [dataclasses.replace(record) for record in RECORDS[:5]]
    assert BudgetController(valid, target_ms=6).record.id == 1
    assert BudgetController(valid, target_ms=100).record.id == 4
