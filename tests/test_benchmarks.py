"""The benchmarks run, and compare two things that compute the same. What they measure is not tested."""

import json
from argparse import Namespace
from collections.abc import Callable
from statistics import median
from types import ModuleType

import pytest
import torch

from tools.benchmarks import (
    anchor_overhead,
    exact_training,
    latency_estimate,
    one_pass,
    one_pass_windowed,
    pick_route,
    routes_vs_mae,
    train_step,
    training_memory,
    windowed_attention,
)
from tools.benchmarks.common import Bound, compare

ARGS = Namespace(device=torch.device('cpu'), warmup=1, repetitions=2)


@pytest.fixture
def run_toy(tmp_path, capsys) -> Callable[[ModuleType], dict]:
    """Results of a benchmark in toy size."""

    def run(benchmark: ModuleType) -> dict:
        out = tmp_path / 'results' / 'toy.json'
        capsys.readouterr()
        benchmark.main(['--toy', '--repetitions', '3', '--out', str(out)])
        assert out.with_suffix('.md').read_text().strip() == capsys.readouterr().out.strip()
        return json.loads(out.read_text())

    return run


@pytest.mark.parametrize(
    ('benchmark', 'bounds'),
    [
        (anchor_overhead, ['<= 1.02', '<= 1.02', None]),
        (routes_vs_mae, ['>= 1.5'] * 5),
        (train_step, ['<= 1.05'] * 3),
        (one_pass, ['>= 2.3', None]),
        (one_pass_windowed, ['>= 2']),
        (exact_training, [None] * 6),
        (windowed_attention, ['>= 1'] * 4 + [None] * 2),
    ],
    ids=lambda value: value.__name__.rpartition('.')[2] if isinstance(value, ModuleType) else None,
)
def test_benchmark_compares_equals_and_reports(run_toy, benchmark, bounds):
    results = run_toy(benchmark)
    assert f'tools.benchmarks.{results["benchmark"]}' == benchmark.__name__
    assert set(results['environment']) == {'device', 'cpu', 'versions'}
    assert {'python', 'torch', 'timm', 'mmsegmentation', 'mmsnnet'} <= set(results['environment']['versions'])
    assert results['settings'].items() >= dict(input_shape=[1, 3, 64, 64], dtype='float32', repetitions=3).items()
    assert [comparison['bound'] for comparison in results['comparisons']] == bounds
    for comparison in results['comparisons']:
        first, second = comparison['contestants'].values()
        assert len(first['samples_ms']) == len(second['samples_ms']) == 3
        assert comparison['ratio'] == pytest.approx(first['median_ms'] / second['median_ms'])
        assert first['iqr_ms'] == pytest.approx(first['q3_ms'] - first['q1_ms'])
        assert comparison['gflops'] > 0
        assert comparison['gflops'] == comparison.get('baseline_gflops', comparison['gflops'])
        if comparison['bound']:
            assert first['shapes'] == second['shapes']
            assert comparison['max_relative_difference'] < 1e-5


def test_both_ways_to_pick_a_route_pick_the_same(run_toy):
    comparisons = run_toy(pick_route)['comparisons']
    assert [comparison['max_relative_difference'] for comparison in comparisons] == [0, 0, 0]


def test_latency_estimate_is_compared_for_every_route(run_toy):
    results = run_toy(latency_estimate)
    assert len({row['route'] for row in results['routes']}) == len(results['routes']) == 14
    errors = []
    for row in results['routes']:
        assert 3 <= len(row['samples_ms']) <= 13
        assert row['measured_ms'] == median(row['samples_ms'])
        assert row['estimate_ms'] == median(row['estimates_ms'])
        ratios = [estimate / sample for estimate, sample in zip(row['estimates_ms'], row['samples_ms'], strict=True)]
        errors.append(abs(median(ratios) - 1) * 100)
        assert abs(row['error_percent']) == pytest.approx(errors[-1])
    assert results['largest_error_percent'] == pytest.approx(max(errors))
    assert results['within_bound'] == sum(error <= 5 for error in errors)


def test_contestants_take_turns():
    turns = []
    contestants = {name: lambda name=name: (turns.append(name), (torch.ones(2),))[1] for name in 'ab'}
    comparison = compare('case', contestants, ARGS)
    assert ''.join(turns) == 'ababab'
    assert [len(samples) for samples in comparison.samples_ms.values()] == [2, 2]
    assert comparison.difference == 0


@pytest.mark.parametrize('value', [1.1, float('nan')])
def test_contestants_that_compute_something_else_are_refused(value):
    contestants = {'a': lambda: (torch.ones(2),), 'b': lambda: (torch.full((2,), value),)}
    with pytest.raises(RuntimeError, match='do not compute the same'):
        compare('case', contestants, ARGS)


@pytest.mark.parametrize(('relation', 'held', 'broken'), [('<=', 1.02, 1.03), ('>=', 1.02, 1.01)])
def test_bounds(relation, held, broken):
    bound = Bound(relation, 1.02)
    assert bound.holds(held)
    assert not bound.holds(broken)


def test_training_memory_is_predicted_and_measured(make_config, data_root, tmp_path):
    make_config().dump(tmp_path / 'toy.py')
    predicted = training_memory.predict(tmp_path / 'toy.py')
    rows = training_memory.measure(tmp_path / 'toy.py', str(data_root), 4)
    assert list(predicted['routes']) == ['cheapest s[0:2]', 'median l[0:2]-s[1:2]', 'most expensive l[0:4]']
    for row in rows:
        assert row['batch_size'] == 4
        assert row['ratio'] == row['predicted'] / row['measured'] == pytest.approx(1, abs=0.05)
    environment = {'device': 'some', 'versions': {}}
    results = {'predicted': {'toy': predicted}, 'measured': {'toy': rows}, 'environment': environment}
    assert training_memory.format_page(results).count('| `toy` ') == 1 + 2
