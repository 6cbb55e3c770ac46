import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from toys import deit3_s_l_costs

from mmsnnet.stitching import ResourceConstrainedSampler, UniformSampler
from mmsnnet.stitching.samplers import group_by_cost

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


@pytest.mark.parametrize('sampler', [UniformSampler, ResourceConstrainedSampler])
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
    code = (
        'from mmsnnet.stitching import ResourceConstrainedSampler\n'
        f'sampler = ResourceConstrainedSampler({GFLOPS}, seed=3)\n'
        'print([sampler(iteration) for iteration in range(50)])'
    )
    environment = {**os.environ, 'PYTHONHASHSEED': '1'}
    run = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == draw(ResourceConstrainedSampler(GFLOPS, seed=3), 50)


def test_draws_do_not_touch_the_global_generator():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    UniformSampler(GFLOPS)(0)
    assert random.random() == expected


@pytest.mark.parametrize('step', [0, -1, float('nan')])
def test_refuses_a_step_that_is_not_positive(step):
    with pytest.raises(ValueError, match='step_gflops must be positive'):
        ResourceConstrainedSampler(GFLOPS, step_gflops=step)
