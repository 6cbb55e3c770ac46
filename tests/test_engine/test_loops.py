import json
from pathlib import Path

import pytest
from mmengine.runner import Runner

from mmsnnet.models import find_backbone
from mmsnnet.stitching import read_records


def test_runner(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.metrics = runner.test()
    return runner


test_runner.__test__ = False


def test_one_pass_equals_testing_route_by_route(make_config):
    together = test_runner(make_config())
    for route in find_backbone(together.model).space:
        alone = Runner.from_cfg(make_config(**{'test_cfg.routes': [route.id]}))
        alone.model.load_state_dict(together.model.state_dict())
        metrics = alone.test()
        for key in ('mIoU', 'aAcc', 'mAcc'):
            assert together.metrics[f'{route.name}/{key}'] == metrics[key]


def test_main_route_comes_first_under_plain_keys(make_config):
    metrics = test_runner(make_config(**{'test_cfg.routes': 'anchors', 'test_cfg.main_route': 's[0:2]'})).metrics
    assert list(metrics)[:3] == ['aAcc', 'mIoU', 'mAcc']
    assert metrics['mIoU'] == metrics['s[0:2]/mIoU']


def test_main_route_is_the_largest_anchor_else_the_dearest_selected(make_config):
    metrics = test_runner(make_config()).metrics
    assert metrics['mIoU'] == metrics['l[0:4]/mIoU']
    runner = test_runner(make_config(**{'test_cfg.routes': ['s[0:2]', 's[0:1]-l[2:4]']}))
    assert runner.test_loop.main_route.name == 's[0:1]-l[2:4]'


def test_writes_records_of_all_routes(make_config):
    runner = test_runner(make_config())
    records = read_records(Path(runner.log_dir, 'stitches.json'))
    assert [record.id for record in records] == list(range(4))
    assert records == runner.test_loop.records
    for record in records:
        assert record.metrics['mIoU'] == runner.metrics[f'{record.name}/mIoU']
        assert record.gflops > 0
        assert record.latency_ms is None
    assert Path(runner.log_dir, 'pareto.png').stat().st_size > 0


def test_route_is_restored_also_after_an_error(make_config, monkeypatch):
    runner = Runner.from_cfg(make_config())
    backbone = find_backbone(runner.model)
    backbone.set_route('s[0:2]')
    runner.test()
    assert backbone.route.name == 's[0:2]'
    monkeypatch.setattr(runner.test_loop, 'phase', 'broken')
    with pytest.raises(AttributeError):
        runner.test()
    assert backbone.route.name == 's[0:2]'


@pytest.mark.parametrize(
    ('routes', 'message'), [('s[0:9]', 'unknown route'), ([99], 'ids 0..3'), (9, 'cannot select 9')]
)
def test_unknown_routes_stop_a_run_before_it_trains(make_config, routes, message):
    cfg = make_config(**{'val_cfg.routes': routes})
    with pytest.raises(ValueError, match=message):
        Runner.from_cfg(cfg).train()
    assert not list(Path(cfg.work_dir).glob('*.pth'))


def test_validation_returns_metrics_for_best_checkpoint(make_config):
    cfg = make_config(
        **{'train_cfg.val_interval': 2, 'default_hooks.checkpoint.save_best': 'auto', 'val_cfg.routes': 'all'}
    )
    Runner.from_cfg(cfg).train()
    assert list(Path(cfg.work_dir).glob('best_aAcc_iter_*.pth')) or list(
        Path(cfg.work_dir).glob('best_mIoU_iter_*.pth')
    )


def test_one_log_line_a_route_and_no_class_tables(make_config):
    runner = test_runner(make_config(log_level='INFO'))
    (log,) = Path(runner.log_dir).glob('*.log')
    text = log.read_text()
    assert text.count('GFLOPs') == 4
    assert 'per class results' not in text


def test_routes_see_the_same_images_once(make_config, monkeypatch):
    runner = Runner.from_cfg(make_config())
    loaded = []
    dataset = runner.test_loop.dataloader.dataset
    prepare = type(dataset).prepare_data
    monkeypatch.setattr(type(dataset), 'prepare_data', lambda self, idx: loaded.append(idx) or prepare(self, idx))
    runner.test()
    assert sorted(loaded) == [0, 1, 2, 3]


def test_json_of_records_has_what_other_tools_rely_on(make_config):
    runner = test_runner(make_config())
    rows = json.loads(Path(runner.log_dir, 'stitches.json').read_text())
    assert {'id', 'name', 'kind', 'gflops', 'params_m', 'metrics'} <= rows[0].keys()
