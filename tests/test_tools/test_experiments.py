"""The experiments' configs and report, without training anything."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsnnet.cli import build_model
from mmsnnet.models import find_backbone
from mmsnnet.registry import ROUTE_SAMPLERS
from mmsnnet.stitching import Record, StitchSpace, read_records, write_records

ROOT = Path(__file__).parents[2]


@pytest.fixture
def experiments(monkeypatch):
    """The tool, with trainings that end at once: each leaves what a test would, scores falling with the seed."""
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location('tool_experiments', ROOT / 'tools' / 'experiments.py')
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    module.calls = []

    def run(script: str, config: Path, *_) -> None:
        module.calls.append((script, config))
        cfg = Config.fromfile(config)
        if script == 'tools/train.py':
            log = config.parent / 'now' / 'vis_data' / 'scalars.json'
            log.parent.mkdir(parents=True)
            log.write_text('{"loss": 1.0, "route_gflops": 1.5}\n{"mIoU": 3.0}\n')
            return
        depths, two_way = (6, 12), cfg.model.backbone.get('two_way', True)
        routes = list(StitchSpace(depths, two_way)) if 'anchors' in cfg.model.backbone else [StitchSpace(depths)[0]]
        records = [
            Record(
                route.id,
                route.name,
                route.kind,
                gflops=1.0 + sum(stop - start for anchor, start, stop in route.spans if anchor),
                params_m=1.0,
                metrics={'mIoU': 20.0 + route.id / 4 - cfg.randomness.seed},
                provenance={'device': 'a processor', 'versions': {'torch': '2'}},
            )
            for route in routes
        ]
        write_records(records, config.parent / 'stitches.json')

    monkeypatch.setattr(module, 'run', run)
    return module


def test_trains_every_way_once_and_reports(experiments, tmp_path, monkeypatch, capsys):
    words = ['--iterations', '20', '--seeds', '0', '2', '--out', tmp_path / 'out', '--report', tmp_path / 'report']
    monkeypatch.setattr(sys, 'argv', ['experiments.py', *map(str, words)])
    experiments.main()
    num_trainings = 2 * (2 + len(experiments.WAYS) + len(experiments.STARTS))
    assert len(experiments.calls) == 2 * num_trainings
    experiments.main()
    assert len(experiments.calls) == 2 * num_trainings

    results = json.loads((tmp_path / 'report' / 'experiments.json').read_text())
    volumes = [seed['hypervolume'] for seed in results['ways']['SN-Netv2']['seeds']]
    assert volumes[0] == pytest.approx(volumes[1] + 2)
    page = (tmp_path / 'report' / 'experiments.md').read_text()
    assert page in capsys.readouterr().out
    assert '| small | 1 | 19.00 ± 1.41 |' in page
    (line,) = (line for line in page.splitlines() if line.startswith('| SN-Net v1 | 7 |'))
    assert f'{sum(volumes) / 2:.2f} ± 1.41' not in line
    assert (tmp_path / 'report' / 'experiments.png').stat().st_size > 0


def test_ways_differ_in_what_they_are_named_after(experiments, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['experiments.py', '--seeds', '5', '--iterations', '20', '--out', str(tmp_path)])
    experiments.main()
    folder = tmp_path / '20-iterations' / '5'
    seen = {}
    for path in folder.glob('SN-*/config.py'):
        cfg = Config.fromfile(path)
        assert cfg.randomness.seed == 5
        assert cfg.param_scheduler[1].end == 20
        layers = find_backbone(build_model(cfg)).up[0]['1']
        sampler = ROUTE_SAMPLERS.build({'_scope_': 'mmsnnet', 'gflops': [1.0, 2.0], **cfg.custom_hooks[0].sampler})
        num_routes = len(read_records(path.parent / 'stitches.json'))
        seen[path.parent.name] = layers.lora_rank, type(sampler).__name__, num_routes, cfg.train_cfg.max_iters
    assert seen == {
        'SN-Netv2': (16, 'ResourceConstrainedSampler', 32, 20),
        'SN-Netv2_start': (16, 'ResourceConstrainedSampler', 32, 1),
        'SN-Netv2_full-matrices': (0, 'ResourceConstrainedSampler', 32, 20),
        'SN-Netv2_uniform-sampling': (16, 'UniformSampler', 32, 20),
        'SN-Netv2_sandwich-sampling': (16, 'SandwichSampler', 32, 20),
        'SN-Net-v1': (0, 'UniformSampler', 7, 20),
        'SN-Net-v1_start': (0, 'UniformSampler', 7, 1),
    }
