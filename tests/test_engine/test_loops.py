import json
import re
from pathlib import Path

import pytest
from mmengine.runner import Runner

from mmsnnet.engine import StitchTestLoop
from mmsnnet.engine.loops import UNFINISHED_FOLDER
from mmsnnet.errors import UserError
from mmsnnet.evaluation import RouteResults
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
            assert together.metrics[f'{route.log_name}/{key}'] == metrics[key]


def test_windows_of_slide_inference_share_prefixes(make_config):
    slide = dict(mode='slide', crop_size=(32, 32), stride=(16, 8))
    test_one_pass_equals_testing_route_by_route(lambda **changes: make_config(**{'model.test_cfg': slide, **changes}))


@pytest.mark.parametrize('setting', [{'test_cfg.route_batch': 3}, {'test_cfg.memory_budget_mb': 0}])
def test_settings_change_no_metric(make_config, setting):
    expected = test_runner(make_config())
    runner = Runner.from_cfg(make_config(**setting))
    runner.model.load_state_dict(expected.model.state_dict())
    assert runner.test() == pytest.approx(expected.metrics, abs=0.1)


def test_images_are_preprocessed_once(make_config, monkeypatch):
    runner = Runner.from_cfg(make_config())
    preprocessor = runner.model.data_preprocessor
    batches, forward = [], type(preprocessor).forward
    monkeypatch.setattr(type(preprocessor), 'forward', lambda *args: batches.append(1) or forward(*args))
    runner.test()
    assert len(batches) == 2


@pytest.mark.parametrize('killed_at', [0, 1, 3, 4, 6, 7])
def test_a_killed_test_resumes_to_the_same_records(make_config, monkeypatch, killed_at):
    """Four routes on two batches: killed within a batch and between batches."""
    monkeypatch.setattr(RouteResults, 'flush_seconds', 0)
    cfg = make_config(**{'test_cfg.out_dir': str(Path(make_config().work_dir, 'out'))})
    uninterrupted = test_runner(cfg)
    expected = Path(uninterrupted.test_loop.out_dir, 'stitches.json').read_bytes()

    def run(**changes) -> list[str]:
        runner = Runner.from_cfg(make_config(**{'test_cfg.out_dir': cfg.test_cfg.out_dir, **changes}))
        runner.model.load_state_dict(uninterrupted.model.state_dict())
        visited = []
        step = runner.model.test_step

        def count(batch):
            if len(visited) == changes.get('killed_at'):
                raise KeyboardInterrupt
            visited.append(find_backbone(runner.model).route.name)
            return step(batch)

        runner.model.test_step = count
        try:
            runner.test()
        except KeyboardInterrupt:
            Path(cfg.test_cfg.out_dir, 'stitches.json').unlink()
        return visited

    killed = run(killed_at=killed_at)
    resumed = run(**{'test_cfg.resume': True})
    assert (len(killed), len(resumed)) == (killed_at, 8 - killed_at)
    assert Path(cfg.test_cfg.out_dir, 'stitches.json').read_bytes() == expected
    assert not Path(cfg.test_cfg.out_dir, UNFINISHED_FOLDER).exists()


def test_a_test_killed_among_its_metrics_computes_only_those_left(make_config, monkeypatch):
    out = {'test_cfg.out_dir': str(Path(make_config().work_dir, 'out'))}
    killed = Runner.from_cfg(make_config(**out))
    report = StitchTestLoop._report_route

    def stop_after_two(loop, *args):
        report(loop, *args)
        if len(loop.records) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(StitchTestLoop, '_report_route', stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        killed.test()
    reported = []
    monkeypatch.setattr(
        StitchTestLoop, '_report_route', lambda loop, *args: reported.append(args[0]) or report(loop, *args)
    )
    resumed = Runner.from_cfg(make_config(**{'test_cfg.resume': True, **out}))
    resumed.model.load_state_dict(killed.model.state_dict())
    metrics = resumed.test()
    assert len(reported) == 2
    assert len(resumed.test_loop.records) == 4
    assert metrics == test_metrics_of(make_config(), killed.model.state_dict())


def test_metrics_of(cfg, weights) -> dict[str, float]:
    runner = Runner.from_cfg(cfg)
    runner.model.load_state_dict(weights)
    return runner.test()


test_metrics_of.__test__ = False


def test_records_know_classes_and_where_they_come_from(make_config):
    record = test_runner(make_config()).test_loop.records[0]
    assert list(record.classes['IoU']) == ['ground', 'left', 'right']
    assert sum(record.classes['IoU'].values()) / 3 == pytest.approx(record.metrics['mIoU'], abs=0.01)
    assert record.provenance['images'] == 4
    assert record.provenance['input_shape'] == [32, 48]
    assert 'torch' in record.provenance['versions']


def test_main_route_comes_first_under_plain_keys(make_config):
    metrics = test_runner(make_config(**{'test_cfg.routes': 'anchors', 'test_cfg.main_route': 's[0:2]'})).metrics
    assert list(metrics)[:3] == ['aAcc', 'mIoU', 'mAcc']
    assert metrics['mIoU'] == metrics['s0-2/mIoU']


def test_main_route_is_the_largest_anchor_else_the_most_expensive_selected(make_config):
    metrics = test_runner(make_config()).metrics
    assert metrics['mIoU'] == metrics['l0-4/mIoU']
    runner = test_runner(make_config(**{'test_cfg.routes': ['s[0:2]', 's[0:1]-l[2:4]']}))
    assert runner.test_loop.main_route.name == 's[0:1]-l[2:4]'


def test_logging_services_take_all_names_of_metrics(make_config):
    # What MLflow, the strictest, allows.
    metrics = test_runner(make_config()).metrics
    assert len(metrics) == 3 + 4 * 3
    assert all(re.fullmatch(r'[\w\-./ ]+', name) for name in metrics)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'dtype': 'float64'}, "dtype must be one of 'float32', 'float16', 'bfloat16', got 'float64'"),
        ({'dtype': 'bfloat16', 'fp16': True}, "fp16=True means dtype='float16', got dtype='bfloat16'"),
    ],
)
def test_refuses_a_precision_that_is_unknown_or_said_twice(make_config, settings, message):
    cfg = make_config(**{f'val_cfg.{key}': value for key, value in settings.items()})
    with pytest.raises(UserError, match=message):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_runs_in_the_precision_of_its_records(make_config, dtype):
    runner = Runner.from_cfg(make_config(**{'test_cfg.dtype': dtype}))
    seen = set()
    layer = find_backbone(runner.model).anchors[0].blocks[0].mlp.fc1
    # Costs are counted on one image, in float32; batches have two.
    layer.register_forward_hook(lambda module, args, output: seen.add((len(output), str(output.dtype))))
    runner.test()
    assert seen == {(1, 'torch.float32'), (2, f'torch.{dtype}')}
    assert {record.provenance['dtype'] for record in runner.test_loop.records} == {dtype}


def test_writes_records_of_all_routes(make_config):
    runner = test_runner(make_config())
    records, space = read_records(Path(runner.log_dir, 'stitches.json')), find_backbone(runner.model).space
    assert [record.id for record in records] == list(range(4))
    assert records == runner.test_loop.records
    for record in records:
        assert record.metrics['mIoU'] == runner.metrics[f'{space.find(record.name).log_name}/mIoU']
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


def test_an_unknown_key_of_latency_is_named(make_config):
    with pytest.raises(UserError, match=r"a key of latency must be one of 'method', .*'repetitions', .*got 'repeats'"):
        test_runner(make_config(**{'test_cfg.latency': dict(repeats=3)}))


@pytest.mark.parametrize(
    ('routes', 'message'), [('s[0:9]', 'unknown route'), ([99], 'ids 0..3'), (9, 'from 1 to 4, got 9')]
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
