import ast
import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from toys import deit3_s_l_costs

from mmsnnet.stitching import (
    CostIntervalSampler,
    LossSampler,
    Record,
    ResourceConstrainedSampler,
    SandwichSampler,
    StitchSpace,
    UniformSampler,
)
from mmsnnet.stitching.focus import spread_scores
from mmsnnet.stitching.samplers import group_by_cost, group_by_interval

GFLOPS = [1.0, 2.0, 3.0, 50.0, 51.0, 100.0]


def draw(sampler: UniformSampler, count: int) -> list[int]:
    return [sampler(iteration) for iteration in range(count)]


def test_deit3_s_l_has_13_groups():
    groups = group_by_cost(deit3_s_l_costs().gflops, 10)
    assert [len(group) for group in groups] == [1, *[12] * 11, 1]
    assert sorted(id_ for group in groups for id_ in group) == list(range(134))


def test_published_costs_have_13_groups(shared_file):
    """The ids that the released code knows but never draws are left out."""
    stitches = json.loads(shared_file('golden/published_ade20k_s_l.json').read_text())['stitches']
    gflops = [stitch['flops'] / 1e9 for stitch in stitches if stitch['kind'] in ('anchor', 'SL', 'LS', 'LSL', 'SLS')]
    assert [len(group) for group in group_by_cost(gflops, 10)] == [1, *[12] * 11, 1]


@pytest.mark.parametrize(
    ('costs', 'step', 'groups'),
    [
        ([5, 1, 3], 2, [[1, 2], [0]]),  # 3 - 1 is not above 2; 5 is measured from 1, not from 3
        ([1, 2, 3, 4], 1.5, [[0, 1], [2, 3]]),
        ([4, 4, 4], 1, [[0, 1, 2]]),
        ([1, 11], 10, [[0, 1]]),
        ([], 1, []),
    ],
)
def test_a_group_starts_more_than_a_step_above_the_first(costs, step, groups):
    assert group_by_cost(costs, step) == groups


def test_resource_constrained_draws_groups_then_routes_uniformly():
    counts = Counter(draw(ResourceConstrainedSampler(GFLOPS, step_gflops=10), 9000))
    for ids, share in (((0, 1, 2), 1000), ((3, 4), 1500), ((5,), 3000)):
        for id_ in ids:
            assert counts[id_] == pytest.approx(share, abs=4.5 * share**0.5)


def test_uniform_draws_routes_uniformly():
    counts = Counter(draw(UniformSampler(GFLOPS), 6000))
    assert all(counts[id_] == pytest.approx(1000, abs=140) for id_ in range(6))


@pytest.mark.parametrize('sampler', [UniformSampler, ResourceConstrainedSampler, SandwichSampler, LossSampler])
def test_a_draw_depends_on_seed_and_iteration_only(sampler):
    first, second = sampler(GFLOPS, seed=3), sampler(GFLOPS, seed=3)
    expected = draw(first, 50)
    assert [second(iteration) for iteration in reversed(range(50))] == expected[::-1]
    assert draw(first, 50) == expected


@pytest.mark.parametrize('sampler', [UniformSampler, ResourceConstrainedSampler])
def test_seeds_are_unrelated(sampler):
    first, second = draw(sampler(GFLOPS, seed=3), 50), draw(sampler(GFLOPS, seed=4), 50)
    assert all(first[shift:] != second[: 50 - shift] for shift in range(10))


def test_another_process_draws_the_same():
    """Samplers and the draw of a focus do not go by hashes, which differ."""
    groups = [[2, 3, 4, 5], [6, 7]]
    code = (
        'from mmsnnet.stitching import ResourceConstrainedSampler, StitchSpace\n'
        'from mmsnnet.stitching.focus import spread_scores\n'
        f'sampler = ResourceConstrainedSampler({GFLOPS}, seed=3)\n'
        f'scores = spread_scores({groups}, StitchSpace((3, 6)), 5)\n'
        'print([[sampler(iteration) for iteration in range(50)], [*scores.items()]])'
    )
    environment = {**os.environ, 'PYTHONHASHSEED': '1'}
    run = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    drawn, scores = ast.literal_eval(run.stdout)
    assert drawn == draw(ResourceConstrainedSampler(GFLOPS, seed=3), 50)
    assert dict(scores) == spread_scores(groups, StitchSpace((3, 6)), 5)


def test_draws_do_not_touch_the_global_generator():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    UniformSampler(GFLOPS)(0)
    assert random.random() == expected


@pytest.mark.parametrize('step', [0, -1, float('nan'), '10', True, None])
def test_refuses_a_step_that_is_not_positive(step):
    with pytest.raises(ValueError, match='step_gflops must be a number above 0, got '):
        ResourceConstrainedSampler(GFLOPS, step_gflops=step)


def records(latencies: list[float | None]) -> list[Record]:
    return [Record(id_, f'r{id_}', 'SL', 1.0, 1.0, latency_ms=latency) for id_, latency in enumerate(latencies)]


@pytest.mark.parametrize(
    ('costs', 'num_intervals', 'groups'),
    [
        ([0, 10, 4.9, 5], 2, [[0, 2], [1, 3]]),
        ([0, 10, 1], 10, [[0], [2], [1]]),  # eight empty intervals
        ([3, 3], 4, [[0, 1]]),
        ([7], 1, [[0]]),
    ],
)
def test_intervals_are_equal_parts_of_the_range(costs, num_intervals, groups):
    assert group_by_interval(costs, num_intervals) == groups


def test_cost_intervals_are_drawn_uniformly_then_routes():
    shuffled = records([10, 11, 12, 50, 51, 110])[::-1]
    counts = Counter(draw(CostIntervalSampler(GFLOPS, shuffled, num_intervals=5), 9000))
    for ids, share in (((0, 1, 2), 1000), ((3, 4), 1500), ((5,), 3000)):
        for id_ in ids:
            assert counts[id_] == pytest.approx(share, abs=4.5 * share**0.5)


@pytest.mark.parametrize(
    ('latencies', 'changes', 'message'),
    [
        (
            [1, 2, None, 4, 5, None],
            {},
            'no latency_ms of 2 of 6 routes that train, the first is number 2 .*--latency',
        ),
        ([1, 2, 3, 4], {}, 'no latency_ms of 2 of 6 routes that train, the first is number 4 of them'),
        ([1] * 6, {'num_intervals': 0}, 'num_intervals must be a whole number, 1 or more, got 0'),
        ([1] * 6, {'cost': 'dollars'}, "cost must be one of 'gflops', 'latency_ms', .*, got 'dollars'"),
    ],
)
def test_cost_intervals_need_the_cost_of_every_route(latencies, changes, message):
    with pytest.raises(ValueError, match=message):
        CostIntervalSampler(GFLOPS, records(latencies), **changes)


def test_sandwich_has_the_cheapest_the_most_expensive_and_any():
    drawn = draw(SandwichSampler([2.0, 1.0, 9.0, 3.0]), 600)
    assert set(drawn[0::3]) == {1}
    assert set(drawn[1::3]) == {2}
    assert all(count == pytest.approx(50, abs=30) for count in Counter(drawn[2::3]).values())
    assert set(drawn[2::3]) == {0, 1, 2, 3}


def test_loss_sampler_draws_by_recent_loss():
    sampler = LossSampler(GFLOPS[:4], sharpness=2, momentum=0.5)
    assert all(count == pytest.approx(1000, abs=140) for count in Counter(draw(sampler, 4000)).values())
    for route_id, loss in ((0, 3.0), (0, 1.0), (1, 1.0), (2, 0.0)):
        sampler.update(route_id, loss)
    assert sampler.losses == [2.0, 1.0, 0.0, None]
    # In proportion to 4, 1, 0, and for the route that has not trained to the largest.
    counts = Counter(draw(sampler, 9000))
    for id_, share in enumerate((4000, 1000, 0, 4000)):
        assert counts[id_] == pytest.approx(share, abs=4.5 * share**0.5)
    assert set(draw(LossSampler(GFLOPS, sharpness=0), 200)) == set(range(6))


def test_loss_sampler_goes_on_where_it_stopped():
    first, second = LossSampler(GFLOPS), LossSampler(GFLOPS)
    first.update(2, 5.0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert draw(first, 50) == draw(second, 50) != draw(LossSampler(GFLOPS, seed=1), 50)


def test_loss_sampler_with_no_loss_left_draws_all():
    sampler = LossSampler(GFLOPS[:2])
    for route_id in range(2):
        sampler.update(route_id, 0.0)
    assert set(draw(sampler, 50)) == {0, 1}


@pytest.mark.parametrize(('sharpness', 'momentum'), [(-1, 0.9), (2, 1.0), (2, -0.1)])
def test_loss_sampler_refuses_what_has_no_meaning(sharpness, momentum):
    with pytest.raises(ValueError, match=r'must be a number, 0 or more, got -|momentum must be below 1, got 1'):
        LossSampler(GFLOPS, sharpness, momentum)
