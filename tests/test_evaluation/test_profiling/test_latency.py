"""Latency is measured and estimated consistently; that the times are right, no test can tell."""

import json
from dataclasses import replace

import pytest
import torch
from toy_exact import make_exact
from toys import toy_anchors, toy_backbone

from mmsnnet.building import build_model
from mmsnnet.evaluation import LatencyBench, LatencyJob, LatencySetting, time_by_turns, with_latency
from mmsnnet.evaluation.profiling import latency
from mmsnnet.evaluation.profiling.latency import WARMUP_PASSES, Measurement
from mmsnnet.evaluation.profiling.latency_records import interquartile_range
from mmsnnet.evaluation.profiling.peak_memory import peak_memory
from mmsnnet.models import RouteViT, route_state_dict
from mmsnnet.models.tuning import LowRankUpdate
from mmsnnet.stitching import Record

DEPTHS = {'depths': (3, 6), 'out_indices': (1, 3, 5)}
SETTING = LatencySetting((32, 48), repetitions=2)
CPU = torch.device('cpu')


@pytest.fixture
def bench() -> LatencyBench:
    return LatencyBench(toy_backbone(**DEPTHS), SETTING)


def test_measures_each_route_as_often_as_asked(bench):
    routes = list(bench.backbone.space)
    measured = bench.measure(routes)
    assert list(measured) == routes
    for measurement in measured.values():
        assert len(measurement.samples_ms) == 2
        assert min(measurement.samples_ms) > 0
        assert measurement.activations_mb > 0


def test_measurement_runs_the_route_it_speaks_of(bench, monkeypatch):
    seen = []
    run = LatencyBench._run
    monkeypatch.setattr(LatencyBench, '_run', lambda self: seen.append(self.backbone.route) or run(self))
    routes = list(bench.backbone.space)
    bench.measure(routes)
    # Before a route's first turn, some passes warm up, and another tells the memory.
    assert seen == [route for route in routes for _ in range(WARMUP_PASSES + 2)] + routes


def test_what_an_interrupted_call_has_measured_is_warmed_up_again(bench, monkeypatch):
    routes, runs = list(bench.backbone.space)[:2], []
    known = {route: Measurement(1.0, [2.0]) for route in routes}
    monkeypatch.setattr(LatencyBench, '_run', lambda self: runs.append(self.backbone.route))
    measured = bench.measure(routes, known)
    assert runs == [route for route in routes for _ in range(WARMUP_PASSES + 1)]
    assert all(measurement.activations_mb == 1.0 for measurement in measured.values())


def test_warms_up_until_nothing_is_compiled_any_more(monkeypatch):
    bench = LatencyBench(toy_backbone(), LatencySetting((32, 48), compiled=True))
    graphs = iter([1, 2, 2, 3, 3, *[3] * 20])
    passes = []
    monkeypatch.setattr(latency, '_num_compiled_graphs', lambda: next(graphs))
    monkeypatch.setattr(bench, '_run', lambda: passes.append(0))
    bench._warm_up()
    # 1 -> 2 in the first check, 2 -> 3 in the second, nothing in the third.
    assert len(passes) == WARMUP_PASSES + 3


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_memory_of_a_route_does_not_depend_on_those_before(dtype):
    """Mixed precision may keep cast weights, which the first pass that casts them would be charged with."""

    def memory(order: list[int]) -> dict:
        bench = LatencyBench(toy_backbone(**DEPTHS), LatencySetting((32, 48), dtype=dtype, repetitions=1))
        measured = bench.measure([bench.backbone.space[index] for index in order])
        return {route.name: measurement.activations_mb for route, measurement in measured.items()}

    assert memory([0, 1, 2]) == memory([2, 1, 0])


def test_adapters_are_measured_as_they_are_exported():
    backbone = toy_backbone(**DEPTHS, lora_rank=0, exits='own', exact='adapters')
    bench, route = LatencyBench(backbone, SETTING), backbone.space.find('l[0:4]-s[2:3]')
    slim = RouteViT(toy_anchors(depths=DEPTHS['depths']), route.name, DEPTHS['out_indices'], exits='own').eval()
    slim.load_state_dict(route_state_dict(backbone, route))
    with torch.no_grad():
        expected = peak_memory(lambda: slim(bench.images), CPU) / 2**20
    assert bench.measure([route])[route].activations_mb == expected
    # Nothing of it stays.
    assert all(module.folded is None for module in backbone.modules() if isinstance(module, LowRankUpdate))


def test_marks_are_on_the_stream_of_the_model_s_device(monkeypatch):
    recorded = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            recorded.append(stream)

        def elapsed_time(self, other: 'Event') -> float:
            return 3.0

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: f'stream of {device}')
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: recorded.append(f'wait for {device}'))
    marks = latency._Marks(torch.device('cuda', 1))
    marks.set(), marks.set()
    assert marks.milliseconds() == [3.0]
    assert recorded == ['stream of cuda:1'] * 2 + ['wait for cuda:1']


def test_model_is_as_it_was_afterwards(bench):
    bench.model.train()
    bench.backbone.set_route('s[0:3]')
    bench.measure(list(bench.backbone.space)[:2])
    bench.estimate(list(bench.backbone.space))
    assert bench.model.training
    assert bench.backbone.route.name == 's[0:3]'
    assert 'forward' not in vars(bench.backbone)


def test_each_exit_s_head_is_timed_on_the_route_s_maps(make_config):
    """Whatever route was set before: heads of one exit do not fit the maps of another."""
    bench = LatencyBench(build_model(make_exact(make_config())), SETTING)
    for name in ('s[0:2]', 'l[0:4]'):
        bench.backbone.set_route(name)
        estimates = bench.estimate(list(bench.backbone.space))
        assert min(estimates.values()) > 0
        assert bench.backbone.route.name == name


def test_estimate_is_the_sum_of_the_parts(bench, monkeypatch):
    """With a clock on which every part takes a time of its own."""
    milliseconds = {}
    kinds = {part for route in bench.backbone.space for part in bench._parts(route)}
    for index, kind in enumerate(sorted(kinds, key=str)):
        milliseconds[kind] = 1.5**index
    monkeypatch.setattr(
        bench, '_time_route_by_parts', lambda route: [(part, milliseconds[part]) for part in bench._parts(route)]
    )
    for route, estimate in bench.estimate(list(bench.backbone.space)).items():
        assert estimate == pytest.approx(sum(milliseconds[part] for part in bench._parts(route)))


def test_parts_are_those_of_the_route(bench):
    route = bench.backbone.space.find('l[0:2]-s[1:2]-l[4:6]')
    kinds = [part[0] if isinstance(part, tuple) else part for part in bench._parts(route)]
    # Embedding, two large blocks with a tap after the second, down, a small block, its tap, up, two large ones, tap.
    assert kinds == ['embed', 1, 1, 1, 'down', 0, 'up', 1, 1, 1, 1, 'rest']


def test_parts_of_different_stages_are_of_different_kinds():
    """Layers and exits of a later stage are wider, and have fewer tokens; windows are shifted in every other block."""
    space = dict(depths=(4, 8), out_indices=(3, 7), two_way=False, window=2)
    bench = LatencyBench(toy_backbone('swin', final_norm=True, **space), SETTING)
    routes = [bench.backbone.space.find(name) for name in ('s[0:4]', 'l[0:8]', 's[0:1]-l[1:8]')]
    small, large, stitched = (bench._parts(route) for route in routes)
    # A tap after each stage, and two kinds of blocks in each, the first of which merges patches in the second stage.
    assert len(set(small)) == len(small) == 8
    assert len(set(large)) == 1 + 2 + 3 + 2 + 1
    assert len(set(stitched) - set(small) - set(large)) == 1


def test_covering_routes_have_every_kind_of_part_and_are_few(bench):
    covering = bench._covering_routes()
    parts = {part for route in covering for part in bench._parts(route)}
    assert parts == {part for route in bench.backbone.space for part in bench._parts(route)}
    assert len(covering) < len(bench.backbone.space)


def test_times_are_for_one_image(monkeypatch):
    bench = LatencyBench(toy_backbone(), LatencySetting((32, 48), batch_size=4))
    clock = iter(range(100))
    monkeypatch.setattr('mmsnnet.evaluation.profiling.latency.time.perf_counter', lambda: next(clock))
    assert bench._time(lambda: None) == 1e3 / 4


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_runs_in_mixed_precision(dtype):
    bench = LatencyBench(toy_backbone(), LatencySetting((32, 48), dtype=dtype, repetitions=1))
    seen = []
    bench.backbone.anchors[0].blocks[0].mlp.fc1.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    bench.measure([bench.backbone.space[0]])
    assert set(seen) == {getattr(torch, dtype)}


def test_peak_memory_counts_what_lives_at_once():
    big = torch.zeros(250_000)

    def two_at_once():
        first = big + 1
        second = first + 1
        del first
        return second + 1

    assert peak_memory(two_at_once, CPU) == 2_000_000
    assert peak_memory(lambda: big.view(500, 500).T, CPU) == 0
    assert peak_memory(lambda: big.add_(1), CPU) == 0
    assert peak_memory(lambda: [big + 1 for _ in range(3)], CPU) == 3_000_000


def test_times_by_turns():
    turns = []
    result = time_by_turns({'a': lambda: turns.append('a'), 'b': lambda: turns.append('b')}, CPU, repetitions=2)
    assert turns == ['a', 'b'] * (WARMUP_PASSES + 2)
    assert set(result) == {'a', 'b'}


def test_interquartile_range():
    assert interquartile_range([1.0]) == 0
    assert interquartile_range([1, 2, 3, 4, 5]) == 2


def test_records_get_latency_memory_and_how_good_the_estimate_is(tmp_path):
    backbone = toy_backbone(**DEPTHS)
    records = [Record(r.id, r.name, r.kind, 1.0, 2.0, provenance={'config': 'x'}) for r in backbone.space]
    timed = with_latency(records, backbone, LatencyJob('measure', SETTING, tmp_path / 'latency.json'))
    assert [record.id for record in timed] == [record.id for record in records]
    for record in timed:
        assert record.latency_ms > 0
        assert record.memory_mb > 2e6 * 4 / 2**20
        assert record.provenance['config'] == 'x'
        assert set(record.provenance['latency']['estimate_error_percent']) == {'median', 'largest'}
    content = json.loads((tmp_path / 'latency.json').read_text())
    assert len(content['routes']) == len(records)
    assert content['run']['latency']['input_shape'] == [32, 48]
    assert content['run']['config'] == 'x'


@pytest.mark.parametrize(
    ('provenance', 'setting'),
    [
        ({'weights_sha256': 'b'}, SETTING),
        ({'weights_sha256': 'a'}, LatencySetting((48, 48), repetitions=2)),
        ({'weights_sha256': 'a'}, LatencySetting((32, 48), repetitions=2, dtype='bfloat16')),
    ],
)
def test_samples_of_another_model_or_setting_are_not_taken_up(tmp_path, provenance, setting):
    backbone = toy_backbone(**DEPTHS)
    records = [Record(0, 's[0:3]', 'anchor', 1.0, 2.0, provenance={'weights_sha256': 'a'})]
    path = tmp_path / 'latency.json'
    with_latency(records, backbone, LatencyJob('measure', SETTING, path))
    content = json.loads(path.read_text())
    content['routes']['s[0:3]']['samples_ms'] = [1e9, 1e9]
    path.write_text(json.dumps(content))
    (timed,) = with_latency(records, backbone, LatencyJob('measure', SETTING, path, resume=True))
    assert timed.latency_ms == 1e9
    records = [replace(timed, provenance=provenance)]
    (timed,) = with_latency(records, backbone, LatencyJob('measure', setting, path, resume=True))
    assert timed.latency_ms < 1e9
