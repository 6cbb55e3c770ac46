"""The flow of a CUDA graph's capture, on a stand-in for CUDA; that it is fast, no test can tell."""

from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from toys import toy_backbone

from mmsnnet.errors import UserError
from mmsnnet.evaluation import LatencyBench, LatencyJob, LatencySetting
from mmsnnet.evaluation.profiling import latency
from mmsnnet.evaluation.profiling.cuda_graph import captured

GPU = torch.device('cuda', 1)


@pytest.fixture
def happened(monkeypatch) -> list[str]:
    """What a stand-in for CUDA is asked to do."""
    log: list[str] = []

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = name

        def wait_stream(self, other: 'Stream') -> None:
            log.append(f'{self.name} waits for {other.name}')

    class Graph:
        def replay(self) -> None:
            log.append('replay')

    @contextmanager
    def inside(what: object):
        log.append(f'enter {getattr(what, "name", type(what).__name__)}')
        yield
        log.append('leave')

    monkeypatch.setattr(torch.cuda, 'CUDAGraph', Graph)
    monkeypatch.setattr(torch.cuda, 'Stream', lambda device: Stream('side'))
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: Stream(f'stream of {device}'))
    for name in ('stream', 'graph', 'device'):
        monkeypatch.setattr(torch.cuda, name, inside)
    return log


def test_warms_up_on_another_stream_captures_and_uploads(happened):
    replay = captured(lambda: happened.append('run'), GPU, warmup_passes=2)
    assert happened == [
        'enter device',
        'side waits for stream of cuda:1',
        *('enter side', 'run', 'run', 'leave'),
        'stream of cuda:1 waits for side',
        *('enter Graph', 'run', 'leave'),
        'replay',
        'leave',
    ]
    happened.clear()
    replay()
    assert happened == ['replay']


def test_what_reads_back_from_the_device_is_refused_in_one_line(happened):
    def run() -> None:
        if happened[-1] == 'enter Graph':
            raise RuntimeError('CUDA error: operation not permitted when stream is capturing\nSearch for ...')

    with pytest.raises(
        UserError, match=r'cannot run as a CUDA graph, leave out cuda_graph: CUDA error: [^\n]*capturing$'
    ):
        captured(run, GPU, warmup_passes=1)


def test_replays_are_what_is_timed(monkeypatch):
    bench = LatencyBench(toy_backbone(), LatencySetting((32, 48), repetitions=2))
    graph = LatencySetting((32, 48), repetitions=2, cuda_graph=True)
    monkeypatch.setattr(bench, 'setting', graph)
    timed, seen = [], []
    monkeypatch.setattr(latency, 'captured', lambda run, device, passes: (run, bench.backbone.route))
    monkeypatch.setattr(bench, '_time', lambda run: timed.append(run) or 1.0)
    # What is cast in a capture lies in the graph's memory: it must not be kept for passes after it.
    bench.backbone.register_forward_hook(lambda *_: seen.append(torch.is_autocast_cache_enabled()))
    routes = list(bench.backbone.space)[:2]
    bench.measure(routes)
    assert timed == [(bench._run, route) for route in routes] * 2
    assert not any(seen)


def test_is_refused_on_other_devices():
    with pytest.raises(UserError, match='cuda_graph times a model on CUDA, this one is on cpu: leave out cuda_graph'):
        LatencyBench(toy_backbone(), LatencySetting((32, 48), cuda_graph=True))
    with pytest.raises(UserError, match="take method='measure'"):
        LatencyJob('estimate', LatencySetting((32, 48), cuda_graph=True), Path('latency.json'))
