"""The experiments' configs and report, without training anything."""

import json
import re
import sys
import threading
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsnnet.building import build_model
from mmsnnet.files import write_json
from mmsnnet.models import find_backbone
from mmsnnet.registry import ROUTE_SAMPLERS
from mmsnnet.stitching import Record, Route, StitchSpace, read_records, write_records
from tools.experiments import jobs
from tools.experiments.stitching_ways import FOLLOWED, WAYS, main

ROOT = Path(__file__).parents[2]


def record(route: Route, score: float) -> Record:
    """A record whose cost grows with the blocks of the large anchor."""
    gflops = 1.0 + sum(stop - start for anchor, start, stop in route.spans if anchor)
    provenance = {'device': 'a processor', 'versions': {'torch': '2'}}
    return Record(route.id, route.name, route.kind, gflops, 1.0, {'mIoU': score}, provenance=provenance)


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, Path]]:
    """Scripts that ran, with configs. They end at once and leave what a test would, scores falling with the seed."""
    calls = []
    # Python 3.11 parses no two files at a time.
    lock = threading.Lock()

    def run(log: Path, num_threads: int, script: str, config: Path, *words: str | Path) -> None:
        calls.append((script, config))
        folder = Path(words[words.index('--work-dir') + 1])
        with lock:
            cfg = Config.fromfile(config)
        if script == 'tools/train.py':
            explained = {f'up.0.{k}': (50 + k) / 100 for k in range(1, 7)}
            # Twice, as of a job that was interrupted first.
            for time, shares in (('20260101_090000', {'up.0.1': 0.01}), ('20260101_100000', explained)):
                write_json(folder / time / 'stitching_layers.json', {'explained_variance': shares})
            return
        is_stitched = 'anchors' in cfg.model.backbone
        routes = list(StitchSpace((6, 12), cfg.model.backbone.get('two_way', True)))
        routes = routes if is_stitched else routes[:1]
        if '--routes' in words:
            routes = [route for route in routes if route.name in words]
        score = 20.0 - cfg.randomness.seed
        write_records([record(route, score + route.id / 4) for route in routes], folder / 'stitches.json')

    monkeypatch.setattr(jobs, 'run', run)
    return calls


def call(*words: str | int | Path) -> None:
    main([str(word) for word in words])


@pytest.mark.parametrize('num_at_once', [1, 3])
def test_trains_every_way_once_and_reports(num_at_once, calls, tmp_path, capsys):
    words = ['--iterations', 100, '--seeds', 0, 2, '--jobs', num_at_once]
    words += ['--out', tmp_path / 'out', '--report', tmp_path]
    call(*words)
    num_trainings = 2 * (2 + len(WAYS)) + len(FOLLOWED)
    num_stops = 4 * len(FOLLOWED)
    assert len(calls) == 2 * num_trainings + num_stops
    call(*words)
    assert len(calls) == 2 * num_trainings + num_stops

    results = json.loads((tmp_path / 'stitching_ways.json').read_text())
    volumes = [seed['hypervolume'] for seed in results['ways']['SN-Netv2']['seeds']]
    assert volumes[0] == pytest.approx(volumes[1] + 2)
    assert results['ways']['SN-Netv2']['curves']['l[0:12]'] == [[at, 20.25] for at in (0, 10, 20, 40, 70, 100)]
    page = (tmp_path / 'stitching_ways.md').read_text()
    assert page in capsys.readouterr().out
    page = re.sub(' +', ' ', page)
    assert '| up.0.4 | 54.0% | `s[0:4]-l[8:12]` | 21.25 | 21.25 |' in page
    (trained,) = (runs['trained_gflops'] for way, runs in results['ways'].items() if 'sandwich' in way)
    # A third each of 1 and 13 GFLOPs, a third of any in between.
    assert (1 + 13 + 5) / 3 < trained[0] < (1 + 13 + 9) / 3
    assert '| small | 1 | 19.00 ± 1.41 |' in page
    # Seven routes are worth less than 32, and the seeds' difference is in both.
    (line,) = (line for line in page.splitlines() if line.startswith('| SN-Net v1 | -'))
    assert line.endswith('± 0.00 |')
    assert '| SN-Net v1 | 7 |' in page
    for name in ('fronts.png', 'iterations.png'):
        assert (tmp_path / name).stat().st_size > 10_000


def test_ways_differ_in_what_they_are_named_after(calls, tmp_path):
    call('--seeds', 5, '--iterations', 100, '--out', tmp_path)
    folder = tmp_path / '100-iterations' / '5'
    seen = {}
    for path in folder.glob('SN-*/config.py'):
        cfg = Config.fromfile(path)
        assert cfg.randomness.seed == 5
        # MMSegmentation takes no list here.
        assert cfg.crop_size == (240, 320)
        assert isinstance(cfg.crop_size, tuple)
        assert cfg.param_scheduler[1].end == 100
        layers = find_backbone(build_model(cfg)).up[0]['1']
        sampler = ROUTE_SAMPLERS.build({'_scope_': 'mmsnnet', 'gflops': [1.0, 2.0], **cfg.custom_hooks[0].sampler})
        num_routes = len(read_records(path.parent / 'stitches.json'))
        seen[path.parent.name] = layers.lora_rank, type(sampler).__name__, num_routes, cfg.train_cfg.max_iters
    assert seen == {
        'SN-Netv2': (2, 'ResourceConstrainedSampler', 32, 100),
        'SN-Netv2_start': (2, 'ResourceConstrainedSampler', 32, 1),
        'SN-Netv2_no-low-rank-update': (0, 'ResourceConstrainedSampler', 32, 100),
        'SN-Netv2_uniform-sampling': (2, 'UniformSampler', 32, 100),
        'SN-Netv2_sandwich-sampling': (2, 'SandwichSampler', 32, 100),
        'SN-Net-v1': (0, 'UniformSampler', 7, 100),
        'SN-Net-v1_start': (0, 'UniformSampler', 7, 1),
    }


@pytest.mark.parametrize('iterations', [40, 105])
def test_refuses_lengths_that_the_schedule_or_the_stops_do_not_fit(iterations, calls, tmp_path):
    with pytest.raises(SystemExit, match=f'a multiple of 10, got {iterations}'):
        call('--iterations', iterations, '--out', tmp_path)


def test_a_training_that_fails_stops_the_rest_and_says_where_to_look(tmp_path, monkeypatch):
    log = tmp_path / '1000-iterations' / '0' / 'small' / 'log.txt'
    monkeypatch.setattr(sys, 'executable', 'false')
    with pytest.raises(SystemExit, match=f'error: tools/train.py ended with status 1; see the end of {log}'):
        call('--out', tmp_path)
    assert log.read_text().startswith('$ python tools/train.py')
    assert len(list(tmp_path.glob('*/*/*/log.txt'))) < 6
