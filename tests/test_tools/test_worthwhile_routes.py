"""The experiment on routes worth choosing: its configs, scenes and report, without training anything."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmsnnet.building import build_model
from mmsnnet.models import find_backbone
from mmsnnet.stitching import Record, StitchSpace, write_records
from tools.experiments import jobs
from tools.experiments.scenes import CLASSES, draw_scene
from tools.experiments.worthwhile_routes import EIGHT, FOUR, MEAN_GFLOPS, SIXTEEN, WAYS, main

ROOT = Path(__file__).parents[2]
SPACE = StitchSpace((6, 6))
# GFLOPs of the anchors alone, and of the middle one; each block of the large one costs 2.
SMALL, MIDDLE, LARGE = 1.0, 7.0, 13.0


@pytest.fixture(autouse=True)
def _in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, Path]]:
    """Scripts that ran, with configs. They end at once and leave what they would.

    Anchors score 30, 35 and 40 on the line, and one less for each seed. Routes score 2 above the line; those that the
    config does not train would score 10.
    """
    calls = []
    # Python 3.11 parses no two files at a time.
    lock = threading.Lock()

    def run(log: Path, num_threads: int, script: str, config: Path, *words: str | Path) -> None:
        calls.append((script, config))
        folder = Path(words[words.index('--work-dir') + 1])
        with lock:
            cfg = Config.fromfile(config)
        is_stitched = 'anchors' in cfg.model.backbone
        focus = cfg.custom_hooks[0].get('focus') if is_stitched else None
        # A dict lets the hook choose.
        focus = list(FOUR) if isinstance(focus, dict) else focus
        if script == 'tools/train.py':
            log_file = folder / '20260101_100000' / 'vis_data' / 'scalars.json'
            log_file.parent.mkdir(parents=True)
            lines = ({MEAN_GFLOPS: 2.0, 'time': 0.5}, {MEAN_GFLOPS: 3.5, 'time': 0.5})
            log_file.write_text(''.join(json.dumps(line) + '\n' for line in lines))
            torch.save({'trained_routes': focus}, folder / f'iter_{cfg.train_cfg.max_iters}.pth')
            return
        seed = cfg.randomness.seed
        provenance = {'device': 'a processor', 'images': 500, 'versions': {'torch': '2'}}
        if not is_stitched:
            gflops = {32: SMALL, 108: MIDDLE, 144: LARGE}[cfg.model.backbone.anchor.embed_dim]
            metrics = {'mIoU': 30 + (gflops - 1) / 1.2 - seed}
            record = Record(0, 'alone', 'anchor', gflops, 1, metrics, provenance=provenance)
            write_records([record], folder / 'stitches.json')
            return
        chosen = words[words.index('--routes') + 1 :] if '--routes' in words else range(len(SPACE))
        records = []
        for route in dict.fromkeys(SPACE.find(word) for word in chosen):
            gflops = 1.0 + 2 * sum(stop - start for anchor, start, stop in route.spans if anchor)
            above = 0 if route.kind == 'anchor' else 2 if not focus or route.name in focus else -100
            metrics = {'mIoU': 30 + (gflops - 1) / 1.2 - seed + above}
            records.append(Record(route.id, route.name, route.kind, gflops, 1, metrics, provenance=provenance))
        write_records(records, folder / 'stitches.json')

    monkeypatch.setattr(jobs, 'run', run)
    return calls


def call(*words: str | int | Path) -> None:
    main([str(word) for word in words])


def test_trains_each_way_once_and_reports(calls, tmp_path, capsys):
    words = ['--seeds', 0, 2, '--iterations', 100, '--anchor-iterations', 200, '--out', tmp_path / 'out']
    words += ['--report', tmp_path, '--jobs', 1, '--ways', 'paper', 'adapters 32, 4 routes']
    call(*words)
    num_trainings = 2 * (3 + 2 + 2)
    assert len(calls) == 2 * num_trainings
    call(*words)
    assert len(calls) == 2 * num_trainings

    results = json.loads((tmp_path / 'worthwhile_routes.json').read_text())
    assert results['anchors']['small']['points'] == [[1, 30], [1, 28]]
    assert results['anchors']['middle']['above'] == pytest.approx([0, 0])
    assert results['anchors']['large, trained on']['points'] == results['anchors']['large']['points']
    paper, focused = (results['ways'][way]['seeds'] for way in ('paper', 'adapters 32, 4 routes'))
    for seed in (*paper, *focused):
        assert seed['ends'] == pytest.approx([0, 0])
        assert (seed['below_small'], seed['on_or_above']) == (0, 1)
    # A trapezium 2 high: from 3 to 11 GFLOPs of the paper's routes, from 3 to 9 of the four, of a base of 12.
    assert [seed['gain'] for seed in paper] == pytest.approx([2 * (12 + 8) / 2 / 12] * 2)
    assert [seed['gain'] for seed in focused] == pytest.approx([2 * (12 + 6) / 2 / 12] * 2)
    assert [seed['against_reference'] for seed in focused] == pytest.approx([-1 / 6] * 2)
    page = (tmp_path / 'worthwhile_routes.md').read_text()
    assert page in capsys.readouterr().out
    page = re.sub(' +', ' ', page)
    assert '| middle | 7.000 | 34.00 ± 1.41 | 0.00 ± 0.00 | 200 |' in page
    assert '| paper | 30 | 0.00 ± 0.00 | 0.00 ± 0.00 | 0 ± 0 % | 100 ± 0 % | 1.67 ± 0.00 |' in page
    assert '| adapters 32, 4 routes | 4 |' in page
    assert '| 100 | 3.500 ± 0.000 | 50 ± 0 |' in page
    assert (tmp_path / 'worthwhile_routes.png').stat().st_size > 10_000


def test_a_part_of_the_ways_needs_no_reference(calls, tmp_path):
    call('--seeds', 1, '--ways', 'copies, 4 routes', '--bars', '--out', tmp_path)
    results = json.loads((tmp_path / 'worthwhile_routes.json').read_text())
    (seed,) = results['ways']['copies, 4 routes']['seeds']
    assert 'against_reference' not in seed
    assert set(seed['routes']) == {'s[0:6]', 'l[0:6]', *FOUR}
    assert set(results['anchors']) == {'small', 'large'}


def test_ways_start_from_the_anchors_of_their_seed(calls, tmp_path):
    call('--seeds', 1, '--iterations', 100, '--anchor-iterations', 200, '--out', tmp_path)
    folder = tmp_path / '1'
    checkpoints = [str(folder / f'{name}-200' / 'iter_200.pth') for name in ('small', 'large')]
    for way in WAYS:
        cfg = Config.fromfile(folder / f'{way.replace(", ", "_").replace(" ", "-")}-100' / 'config.py')
        assert cfg.randomness.seed == 1
        assert (cfg.train_cfg.max_iters, cfg.param_scheduler[1].end) == (100, 100)
        assert [anchor.init_cfg.checkpoint for anchor in cfg.model.backbone.anchors] == checkpoints
        head = cfg.model.decode_head
        heads = head.get('heads', [head])
        assert [each.init_cfg.checkpoint for each in heads] == checkpoints[-len(heads) :]
        assert len(heads) == (1 if way.startswith('paper') else 2)
        backbone = find_backbone(build_model(cfg))
        trains_all = way.startswith(('paper', 'own exits'))
        assert (backbone.exact is None) == trains_all
        assert (list(backbone.own_tunings) == list(FOUR)) == way.startswith('separate')
        if backbone.exact:
            assert way.startswith('copies') == (backbone.exact == 'copies')
        focus = cfg.custom_hooks[0].get('focus')
        assert (focus is not None) == ('routes' in way)
        if isinstance(focus, dict):
            assert way.endswith(f'{focus.routes} routes by {focus.by}')
        elif focus:
            assert f'{len(focus)} routes' in way
        assert [hook.type for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']
    longer = Config.fromfile(folder / 'large-longer-100' / 'config.py')
    assert (longer.load_from, longer.train_cfg.max_iters) == (checkpoints[1], 100)


def test_lists_of_routes_grow_and_spread_over_the_costs():
    assert [len(set(names)) for names in (FOUR, EIGHT, SIXTEEN)] == [4, 8, 16]
    assert set(FOUR) < set(EIGHT) < set(SIXTEEN) <= {route.name for route in SPACE if route.kind != 'anchor'}
    blocks = [sum(stop - start for anchor, start, stop in SPACE.find(name).spans if anchor) for name in FOUR]
    assert blocks == [1, 2, 3, 4]


def test_a_scene_is_a_function_of_its_number():
    image, labels = draw_scene(3)
    again, other = draw_scene(3), draw_scene(4)
    assert image.shape == (96, 96, 3)
    assert labels.shape == (96, 96)
    assert (image.dtype, labels.dtype) == (np.uint8, np.uint8)
    assert np.array_equal(image, again[0])
    assert np.array_equal(labels, again[1])
    assert not np.array_equal(labels, other[1])


def test_scenes_show_every_class_on_much_ground():
    shares = np.bincount(np.concatenate([draw_scene(index)[1].ravel() for index in range(200)])) / (200 * 96 * 96)
    assert len(shares) == len(CLASSES)
    assert 0.4 < shares[0] < 0.8
    assert shares[1:].min() > 0.01
