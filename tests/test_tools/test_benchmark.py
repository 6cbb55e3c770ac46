"""tools/benchmark.py on a toy job."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmseg.evaluation import IoUMetric
from toy_job import assert_one_line

from mmsnnet.engine import StitchTestLoop
from mmsnnet.engine.loops import UNFINISHED_FOLDER
from mmsnnet.evaluation import RouteResults
from mmsnnet.stitching import Record, read_records, write_records

ROOT = Path(__file__).parents[2]
FILES = {'stitches.json', 'stitches.csv', 'pareto.png', 'pareto.svg', 'report.html'}


def test_writes_records_table_plots_and_page(trained, run_tool, tmp_path, capsys):
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--latency', '--repetitions', 2)
    out = tmp_path / 'out'
    assert {path.name for path in out.iterdir()} == FILES | {'latency.json', 'log'}
    records = read_records(out / 'stitches.json')
    assert len(records) == 4
    for record in records:
        assert record.latency_ms > 0
        assert record.latency_iqr_ms >= 0
        assert record.memory_mb > record.params_m * 4 * 1e6 / 2**20
        assert record.provenance['latency']['input_shape'] == [32, 48]
        assert len(record.provenance['checkpoint_sha256']) == 64
    with (out / 'stitches.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['name'] for row in rows] == [record.name for record in records]
    assert float(rows[0]['mIoU']) == records[0].metrics['mIoU']
    printed = capsys.readouterr().out
    assert printed.count('GFLOPs') == 4 + 4 + 1
    assert 'on the Pareto front' in printed


def test_equals_the_test_tool(trained, run_tool, tmp_path):
    run_tool('test', *trained, '--work-dir', tmp_path / 'tested')
    run_tool('benchmark', *trained, '--out', tmp_path / 'out')
    tested, benchmarked = (read_records(tmp_path / name / 'stitches.json') for name in ('tested', 'out'))
    assert [record.metrics for record in tested] == [record.metrics for record in benchmarked]


def test_estimates_latency(trained, run_tool, tmp_path):
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--latency', 'estimate', '--routes', 'anchors')
    records = read_records(tmp_path / 'out' / 'stitches.json')
    assert len(records) == 2
    assert all(record.latency_ms > 0 and record.latency_iqr_ms is None for record in records)


def test_killed_at_random_it_resumes_to_the_same_records(trained, run_tool, tmp_path):
    run_tool('benchmark', *trained, '--out', tmp_path / 'expected')
    rng = random.Random(0)
    # Results are saved after each step, so that there is something to resume.
    code = (
        'from mmsnnet.evaluation import RouteResults; from tools import benchmark; '
        'RouteResults.flush_seconds = 0; benchmark.main()'
    )
    command = [sys.executable, '-c', code, *trained, '--out', tmp_path / 'out', '--resume']
    # Records name the number of threads, which the tests set to one for this process.
    options = {
        'env': {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
        'stdout': subprocess.DEVNULL,
        'stderr': subprocess.DEVNULL,
    }
    with subprocess.Popen(command, **options) as process:
        wait_for_progress(process, tmp_path / 'out', rng)
        process.kill()
    subprocess.run(command, check=True, **options)
    expected, resumed = ((tmp_path / name / 'stitches.json').read_bytes() for name in ('expected', 'out'))
    assert resumed == expected


def wait_for_progress(process: subprocess.Popen, out: Path, rng: random.Random) -> None:
    """Wait until the process has written something that was not there, or ended."""
    before = len(list((out / UNFINISHED_FOLDER).glob('*')))
    deadline = time.time() + 60
    while (
        len(list((out / UNFINISHED_FOLDER).glob('*'))) <= before and process.poll() is None and time.time() < deadline
    ):
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.05))


def test_an_interrupted_measurement_goes_on(trained, run_tool, tmp_path):
    arguments = ['benchmark', *trained, '--out', tmp_path / 'out', '--latency', '--repetitions', 3]
    run_tool(*arguments)
    path = tmp_path / 'out' / 'latency.json'
    content = json.loads(path.read_text())
    content['routes']['s[0:2]']['samples_ms'] = [1e6]
    del content['routes']['l[0:4]']
    path.write_text(json.dumps(content))
    run_tool(*arguments, '--resume')
    resumed = json.loads(path.read_text())['routes']
    assert resumed['s[0:2]']['samples_ms'][0] == 1e6
    assert all(len(route['samples_ms']) == 3 for route in resumed.values())
    run_tool(*arguments)
    assert json.loads(path.read_text())['routes']['s[0:2]']['samples_ms'][0] < 1e6


def test_resuming_another_run_is_refused(trained, run_tool, tmp_path, monkeypatch):
    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    config, checkpoint = trained
    with monkeypatch.context() as patched:
        patched.setattr(StitchTestLoop, '_report_route', interrupt)
        with pytest.raises(SystemExit, match='interrupted'):
            run_tool('benchmark', config, checkpoint, '--out', tmp_path / 'out')
    label = next((tmp_path / 'data' / 'annotations' / 'val').glob('*.png'))
    for other, arguments, message in (
        (checkpoint.with_name('iter_2.pth'), [], 'checkpoint was "iter_4.pth", now it is "iter_2.pth"'),
        (
            *(checkpoint, ['--cfg-options', 'model.data_preprocessor.mean=[90,120,120]']),
            r'settings.model.data_preprocessor.mean.0 was 120.0, now it is 90',
        ),
        (checkpoint, ['--dtype', 'bfloat16'], 'dtype was "float32", now it is "bfloat16"'),
        (checkpoint, ['--cfg-options', 'test_cfg.input_shape=(64,64)'], r'input_shape.0 was 32, now it is 64'),
        (checkpoint, ['--routes', 'anchors'], 'routes was'),
        # The last one: it changes the data.
        (checkpoint, [], 'data_sha256 was'),
    ):
        if message.startswith('data'):
            label.write_bytes(label.read_bytes() + b' ')
        with pytest.raises(SystemExit) as stopped:
            run_tool('benchmark', config, other, '--out', tmp_path / 'out', '--resume', *arguments)
        assert_one_line(stopped.value, f'cannot resume the evaluation in .*{message}')


def test_times_of_another_model_are_not_taken_over(trained, run_tool, tmp_path):
    config, checkpoint = trained
    arguments = ['--out', tmp_path / 'out', '--routes', 'anchors', '--latency', '--repetitions', 1]
    run_tool('benchmark', config, checkpoint, *arguments)
    path = tmp_path / 'out' / 'latency.json'
    content = json.loads(path.read_text())
    for route in content['routes'].values():
        route['samples_ms'] = [1e6]
    path.write_text(json.dumps(content))
    run_tool('benchmark', config, checkpoint.with_name('iter_2.pth'), *arguments, '--resume')
    assert all(route['samples_ms'][0] < 1e6 for route in json.loads(path.read_text())['routes'].values())
    assert all(record.latency_ms < 1e6 for record in read_records(tmp_path / 'out' / 'stitches.json'))


def test_some_routes_leave_records_of_others_but_of_another_precision(trained, run_tool, tmp_path):
    arguments = ['benchmark', *trained, '--out', tmp_path / 'out']
    run_tool(*arguments, '--latency', '--repetitions', 1)
    everything = (tmp_path / 'out' / 'stitches.json').read_bytes()
    run_tool(*arguments, '--routes', 'anchors')
    assert (tmp_path / 'out' / 'stitches.json').read_bytes() == everything
    run_tool(*arguments, '--routes', 'anchors', '--dtype', 'bfloat16')
    records = read_records(tmp_path / 'out' / 'stitches.json')
    assert [record.provenance['dtype'] for record in records] == ['bfloat16'] * 2


def test_settings_of_the_config_stay(trained, config_file, run_tool, tmp_path):
    settings = {'test_cfg.fp16': True, 'test_cfg.input_shape': (64, 64), 'test_cfg.main_route': 's[0:2]'}
    config = config_file(**settings)
    for tool, out in (('benchmark', '--out'), ('test', '--work-dir')):
        run_tool(tool, config, trained[1], out, tmp_path / tool, '--routes', 'l[0:4]')
        # The main route is evaluated, too.
        records = read_records(tmp_path / tool / 'stitches.json')
        assert [record.name for record in records] == ['s[0:2]', 'l[0:4]']
        assert records[0].provenance['dtype'] == 'float16'
        assert records[0].provenance['input_shape'] == [64, 64]
    assert (tmp_path / 'benchmark' / 'log').is_dir()
    run_tool('benchmark', config, trained[1], '--out', tmp_path / 'out', '--work-dir', tmp_path / 'logs')
    assert (tmp_path / 'logs').is_dir()
    assert not (tmp_path / 'out' / 'log').exists()


def test_deletes_no_file_of_the_user(trained, run_tool, tmp_path):
    out = tmp_path / 'out'
    kept = [out / 'partial' / 'thesis.txt', out / UNFINISHED_FOLDER / 'notes.txt']
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text('mine')
    run_tool('benchmark', *trained, '--out', out, '--routes', 'anchors')
    assert all(path.read_text() == 'mine' for path in kept)


def test_an_infinite_metric_is_written_as_null(trained, run_tool, tmp_path, monkeypatch):
    compute = IoUMetric.compute_metrics
    monkeypatch.setattr(IoUMetric, 'compute_metrics', lambda *args: {**compute(*args), 'surprise': float('inf')})
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--routes', 'anchors')
    rows = json.loads((tmp_path / 'out' / 'stitches.json').read_text())
    assert [row['metrics']['surprise'] for row in rows] == [None, None]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--routes', 's[0:9]'], "unknown route 's\\[0:9\\]'"),
        (['--routes', 'budget:5-6'], 'no route costs 5 to 6 GFLOPs: this space has 0.000'),
        (['--routes', 'front:none.json'], 'no records at none.json'),
        (['--route-batch', '0'], 'route_batch must be 1'),
        (['--alone', 'none.json'], 'no records at none.json'),
        (['--metric', 'mAP'], "no metric 'mAP'"),
        (['--latency', '--cuda-graph'], 'cuda_graph times a model on CUDA, this one is on cpu'),
    ],
)
def test_bad_input_is_told_in_one_line(trained, run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        run_tool('benchmark', *trained, '--out', tmp_path / 'out', *arguments)
    assert_one_line(stopped.value, message)


def test_a_corrupt_image_is_named_and_skipped_only_if_asked(trained, run_tool, tmp_path):
    images = sorted((trained[0].parent / 'data' / 'images' / 'val').glob('*.png'))
    run_tool('benchmark', *trained, '--out', tmp_path / 'all')
    images[1].write_bytes(images[1].read_bytes()[:100])
    arguments = ['benchmark', *trained, '--out', tmp_path / 'out']
    with pytest.raises(SystemExit) as stopped:
        run_tool(*arguments)
    assert_one_line(stopped.value, f'cannot load image {images[1]}: .*--skip-unreadable')
    run_tool(*arguments, '--skip-unreadable')
    without = read_records(tmp_path / 'out' / 'stitches.json')
    assert [r.metrics for r in without] != [r.metrics for r in read_records(tmp_path / 'all' / 'stitches.json')]
    # Without the other image of its batch, too.
    images[0].unlink()
    run_tool(*arguments, '--skip-unreadable')
    assert len(read_records(tmp_path / 'out' / 'stitches.json')) == 4


def test_a_full_disk_loses_nothing(trained, run_tool, tmp_path, monkeypatch):
    arguments = ['benchmark', *trained, '--out', tmp_path / 'out']
    monkeypatch.setattr(RouteResults, 'flush_seconds', 0)
    writes = []

    def full_after_three(self, path):
        writes.append(path)
        if len(writes) > 3:
            raise OSError(28, 'No space left on device')
        return write(self, path)

    write = RouteResults._write_chunk
    with monkeypatch.context() as patched:
        patched.setattr(RouteResults, '_write_chunk', full_after_three)
        with pytest.raises(SystemExit) as stopped:
            run_tool(*arguments)
    assert_one_line(stopped.value, 'cannot write .*: No space left on device; what was there before is unchanged')
    run_tool(*arguments, '--resume')
    run_tool('benchmark', *trained, '--out', tmp_path / 'expected')
    resumed, expected = ((tmp_path / name / 'stitches.json').read_bytes() for name in ('out', 'expected'))
    assert resumed == expected


def test_compares_errors_by_their_direction(run_tool, tmp_path, capsys):
    """Over GFLOPs from 1 to 3, the first errs by 0.5 for half of the budgets and by 0.3 for the others."""
    for name, errors in (('a', (0.5, 0.3)), ('b', (0.4, 0.4))):
        costs = enumerate(zip((1, 2), errors, strict=True))
        records = [Record(id_, f'r{id_}', 'SL', gflops, 1.0, {'rmse': error}) for id_, (gflops, error) in costs]
        write_records([*records, Record(2, 'r2', 'SL', 3, 1.0, {'rmse': 0.6})], tmp_path / f'{name}.json')
    run_tool('compare', tmp_path / 'a.json', tmp_path / 'b.json')
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:5] for row in rows] == [['3', '2', '1', '2', '0.4'], ['3', '1', '2', '2', '0.4']]


def test_compares_two_benchmarks(trained, run_tool, tmp_path, capsys):
    run_tool('benchmark', *trained, '--out', tmp_path / 'a')
    run_tool('compare', *[tmp_path / 'a' / 'stitches.json'] * 2)
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first == second
    assert first.split()[0] == '4'
    run_tool('flops', trained[0], '--shape', 32, 48, '--json', tmp_path / 'flops.json')
    with pytest.raises(SystemExit) as stopped:
        run_tool('compare', tmp_path / 'flops.json', tmp_path / 'flops.json')
    assert_one_line(stopped.value, 'has no metrics to compare')


def test_two_ranks_give_the_metrics_of_one_and_share_their_computation(trained, config_file, run_tool, tmp_path):
    notes = tmp_path / 'notes'
    config = config_file(
        custom_imports=dict(imports=['mmsnnet', 'witness_metric'], allow_failed_imports=False),
        test_evaluator=dict(type='WitnessMetric', notes=str(notes)),
        # Two ranks have to see one of three images twice.
        **{'test_dataloader.dataset.indices': 3, 'test_dataloader.batch_size': 1},
    )
    # In the second round of three routes, one of two ranks has none.
    arguments = [config, trained[1], '--routes', '3', '--out']
    run_tool('benchmark', *arguments, tmp_path / 'one')
    assert notes.read_text().split() == ['0'] * 3
    notes.unlink()
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--standalone']
    command += [ROOT / 'tools/benchmark.py', *arguments, tmp_path / 'two', '--launcher', 'pytorch', '--pictures', 1]
    environment = {**os.environ, 'PYTHONPATH': f'{ROOT}:{ROOT / "tests"}', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(notes.read_text().split()) == ['0', '0', '1']
    one, two = (read_records(tmp_path / name / 'stitches.json') for name in ('one', 'two'))
    assert [(record.metrics, record.classes) for record in one] == [(record.metrics, record.classes) for record in two]
    assert 'data:image/webp' in (tmp_path / 'two' / 'report.html').read_text()


def test_streams_frames_at_a_rate(trained, run_tool, tmp_path, capsys):
    run_tool('benchmark', *trained, '--out', tmp_path / 'out', '--latency', '--repetitions', 2)
    frames = trained[0].parent / 'data' / 'images' / 'val'
    arguments = ['stream', *trained, '--images', frames, '--target-ms', 1000, '--repeat', 2]
    records = tmp_path / 'out' / 'stitches.json'
    run_tool(*arguments, '--records', records, '--disturb', '2-4', '--plot', tmp_path / 'stream.png')
    assert '0 of 8 frames took longer than 1000 ms' in capsys.readouterr().out
    assert (tmp_path / 'stream.png').stat().st_size > 0
    for changes, message in (
        (['--disturb', '7'], 'two frames such as 50-100'),
        (['--images', tmp_path / 'work_dir'], 'no images'),
        (['--records', 'none.json'], 'no records at none.json'),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tool(*arguments, '--records', records, *changes)
        assert_one_line(stopped.value, message)
