"""The route that a budget buys."""

from dataclasses import replace

import pytest

from mmsnnet.demo import Choices
from mmsnnet.errors import UserError
from mmsnnet.stitching import Record


def record(index: int, gflops: float, score: float, kind: str = 'LS', latency_ms: float | None = None) -> Record:
    return Record(index, f'route {index}', kind, gflops, 1.0, {'mIoU': score, 'aAcc': 50.0}, latency_ms)


RECORDS = [record(0, 1, 30, 'anchor'), record(1, 9, 45, 'anchor'), record(2, 4, 40), record(3, 5, 20)]


def test_a_budget_buys_the_best_route_within_it():
    choices = Choices(RECORDS)
    assert choices.limits('gflops') == (1, 9)
    assert [choices.best('gflops', budget).id for budget in (0.5, 1, 3.9, 4, 8.9, 9, 100)] == [0, 0, 0, 2, 2, 1, 1]
    assert choices.largest.id == 1


def test_errors_rank_the_other_way_round():
    records = [
        replace(each, metrics={'rmse': score}) for each, score in zip(RECORDS, (0.5, 0.3, 0.4, 0.6), strict=True)
    ]
    choices = Choices(records)
    assert choices.limits('gflops') == (1, 9)
    assert choices.best('gflops', 5).id == 2


def test_budgets_are_in_what_all_routes_were_measured_in():
    assert Choices(RECORDS).costs == ['gflops', 'params_m']
    timed = [replace(each, latency_ms=10.0 - each.id) for each in RECORDS]
    assert Choices(timed).costs == ['gflops', 'latency_ms', 'params_m']
    assert Choices([*timed[:3], RECORDS[3]]).costs == ['gflops', 'params_m']
    assert Choices(timed).describe(timed[2]) == 'mIoU 40, 4 GFLOPs, 8 ms, 1 M parameters'


@pytest.mark.parametrize(('low', 'high'), [(0.00911808, 0.349643968), (1, 9), (61.7, 602.6), (5, 5)])
def test_the_slider_has_round_numbers_and_reaches_both_ends(low, high):
    choices = Choices([record(0, low, 30, 'anchor'), record(1, high, 45, 'anchor')])
    slider = choices.slider('gflops')
    assert slider['minimum'] <= low <= high <= slider['maximum'] == slider['value']
    assert all(len(f'{slider[name]:.12g}') <= 5 for name in ('minimum', 'maximum', 'step'))
    assert choices.best('gflops', slider['minimum']).gflops == low
    for each in choices.records.values():
        assert choices.best('gflops', choices.slider('gflops', each)['value']) is each or low == high


def test_another_metric_can_rank():
    assert Choices(RECORDS, 'aAcc').best('gflops', 100).id == 0


def test_refuses_records_of_another_model_and_none():
    Choices(RECORDS).check_space(4)
    with pytest.raises(UserError, match='the records name route 3, and this model has routes 0 to 2'):
        Choices(RECORDS).check_space(3)
    with pytest.raises(UserError, match='no records'):
        Choices([])
