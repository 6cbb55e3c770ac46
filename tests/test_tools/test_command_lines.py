"""The real command lines on a toy job."""

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch.utils.data import DataLoader, Dataset
from toy_job import assert_one_line
from toys import DATA

from mmsnnet.cli import command
from mmsnnet.convert import convert_segmentor
from mmsnnet.engine import StitchTestLoop, loops
from mmsnnet.errors import UserError
from mmsnnet.stitching import read_records

ROOT = Path(__file__).parents[2]


def test_train_test_and_flops(trained, run_tool, tmp_path, capsys):
    config, checkpoint = trained
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'out')
    printed = capsys.readouterr().out
    assert printed.count('GFLOPs') == 4 + 1
    assert 'on the Pareto front' in printed
    records = read_records(tmp_path / 'out' / 'stitches.json')
    assert [record.name for record in records] == ['s[0:2]', 'l[0:4]', 's[0:1]-l[2:4]', 'l[0:2]-s[1:2]']
    assert (tmp_path / 'out' / 'pareto.png').exists()

    run_tool('flops', config, '--shape', 32, 48, '--json', tmp_path / 'flops.json')
    costs = read_records(tmp_path / 'flops.json')
    assert [cost.gflops for cost in costs] == [record.gflops for record in records]
    assert all(not cost.metrics for cost in costs)


@pytest.mark.parametrize(
    ('words', 'count'), [(['anchors'], 2), (['3'], 3), (['id:2'], 1), (['budget:0-1'], 4), (['2', 's[0:2]'], 2)]
)
def test_routes_option(trained, run_tool, tmp_path, words, count):
    run_tool('test', *trained, '--work-dir', tmp_path / 'out', '--routes', *words)
    assert len(read_records(tmp_path / 'out' / 'stitches.json')) == count


def test_predictions_and_painted_images_are_saved(trained, run_tool, tmp_path):
    run_tool('test', *trained, '--out', tmp_path / 'masks', '--show-dir', tmp_path / 'shown', '--routes', 'l[0:4]')
    assert len(list((tmp_path / 'masks').glob('*.png'))) == 4
    assert list((tmp_path / 'shown').glob('**/*.png'))


def test_predictions_are_saved_by_those_of_several_metrics_that_can(trained, config_file, run_tool, tmp_path):
    config = config_file(test_evaluator=[dict(type='IoUMetric'), dict(type='IoUMetric', prefix='again')])
    run_tool('test', config, trained[1], '--out', tmp_path / 'masks', '--routes', 'l[0:4]')
    assert len(list((tmp_path / 'masks').glob('*.png'))) == 4
    config = config_file(test_evaluator=dict(type='mmdet.VOCMetric'))
    with pytest.raises(SystemExit) as stopped:
        run_tool('test', config, trained[1], '--out', tmp_path / 'masks')
    assert_one_line(stopped.value, '--out needs a metric that saves predictions, one of IoUMetric, .*, and there is')


def test_a_single_anchor_gives_one_record_to_compare_with(make_config, run_tool, tmp_path):
    cfg = make_config(custom_hooks=[])
    cfg.model.backbone = dict(type='AnchorViT', anchor=cfg.model.backbone.anchors[1], out_indices=(1, 3))
    cfg.val_cfg, cfg.test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
    cfg.dump(tmp_path / 'alone.py')
    run_tool('train', tmp_path / 'alone.py')
    run_tool('test', tmp_path / 'alone.py', tmp_path / 'work_dir' / 'iter_4.pth')
    (alone,) = read_records(tmp_path / 'work_dir' / 'stitches.json')
    assert alone.gflops > 0
    assert 'mIoU' in alone.metrics
    assert alone.provenance['dtype'] == 'float32'
    run_tool('test', tmp_path / 'alone.py', tmp_path / 'work_dir' / 'iter_4.pth', '--dtype', 'bfloat16')
    (in_bfloat16,) = read_records(tmp_path / 'work_dir' / 'stitches.json')
    assert in_bfloat16.provenance['dtype'] == 'bfloat16'
    run_tool('plot', tmp_path / 'work_dir' / 'stitches.json', '--out', tmp_path / 'plots' / 'plot.png')
    assert (tmp_path / 'plots' / 'plot.png').exists()
    run_tool('flops', tmp_path / 'alone.py', '--json', tmp_path / 'flops.json')
    assert [record.gflops for record in read_records(tmp_path / 'flops.json')] == [alone.gflops]
    with pytest.raises(SystemExit) as stopped:
        run_tool('test', tmp_path / 'alone.py', tmp_path / 'work_dir' / 'iter_4.pth', '--routes', 'all')
    assert_one_line(stopped.value, '--routes needs a stitched model')


def test_plot_tells_what_it_cannot_plot(trained, run_tool, tmp_path):
    run_tool('flops', trained[0], '--json', tmp_path / 'flops.json')
    run_tool('test', *trained, '--work-dir', tmp_path)
    for arguments, message in (
        ([tmp_path / 'flops.json'], 'no metrics to plot'),
        ([tmp_path / 'stitches.json', '--metric', 'mAP'], "no metric 'mAP'"),
        ([tmp_path / 'stitches.json', '--alone', tmp_path / 'stitches.json'], 'has 4 of a stitched model'),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tool('plot', *arguments, '--out', tmp_path / 'plot.png')
        assert_one_line(stopped.value, message)


def test_testing_some_routes_keeps_the_records_of_others(trained, run_tool, tmp_path):
    run_tool('test', *trained, '--work-dir', tmp_path)
    everything = (tmp_path / 'stitches.json').read_bytes()
    run_tool('test', *trained, '--work-dir', tmp_path, '--routes', 'anchors')
    assert (tmp_path / 'stitches.json').read_bytes() == everything
    # Another checkpoint's are not mixed with them.
    run_tool('test', trained[0], trained[1].with_name('iter_2.pth'), '--work-dir', tmp_path, '--routes', 'anchors')
    assert len(read_records(tmp_path / 'stitches.json')) == 2


def test_converts_a_released_checkpoint_with_pickled_objects(run_tool, tmp_path, capsys):
    arrays = np.load(DATA / 'official_tiny.npz')
    weights = {
        f'backbone.{key.removeprefix("param/")}': torch.from_numpy(arrays[key]) for key in arrays if key[:6] == 'param/'
    }
    history = {'message_hub': {'log_scalars': {'train/loss': HistoryBuffer([1.0], [1])}}}
    torch.save({'state_dict': weights, **history}, tmp_path / 'released.pth')
    run_tool('convert_official', tmp_path / 'released.pth', tmp_path / 'converted.pth')
    converted = torch.load(tmp_path / 'converted.pth', weights_only=True)['state_dict']
    expected = convert_segmentor(weights).state_dict
    assert converted.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in converted.items())
    printed = capsys.readouterr().out
    assert (
        'message_hub.log_scalars.train/loss dropped: a pickled mmengine.logging.history_buffer.HistoryBuffer' in printed
    )
    for arguments, message in (
        ([tmp_path / 'none.pth'], "no checkpoint at '.*none.pth'"),
        ([DATA / 'official_tiny.npz'], 'is no checkpoint that torch.save has written'),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tool('convert_official', *arguments, tmp_path / 'out.pth')
        assert_one_line(stopped.value, message)


def test_quickstart_names_a_missing_folder(run_tool, tmp_path):
    (tmp_path / 'images' / 'train').mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        run_tool('quickstart', '--data', 'camvid', '--data-root', tmp_path)
    assert_one_line(stopped.value, 'no folder .*images/val.: give --data-root')


BAD_INPUT = {
    'config': (['missing.py'], {}, "no config at 'missing.py'"),
    'checkpoint': (['{config}', 'missing.pth'], {}, "no checkpoint at 'missing.pth'"),
    'folder': (['{config}', '.'], {}, r"no checkpoint at '\.'"),
    'route': (['{config}', '{checkpoint}', '--routes', 's[0:7]'], {}, r"unknown route 's\[0:7\]'.*ids? 0..3"),
    'data root': (
        ['{config}', '{checkpoint}'],
        {'test_dataloader.dataset.data_root': 'nowhere'},
        'no data at nowhere: .*--cfg-options test_dataloader.dataset.data_root=PATH',
    ),
    'data folder': (
        ['{config}', '{checkpoint}'],
        {'test_dataloader.dataset.data_prefix.img_path': 'images/vall'},
        'no data at .*/images/vall: ',
    ),
    'classes': (
        ['{config}', '{checkpoint}'],
        {'model.decode_head.num_classes': 5},
        'num_classes=5, but the data set has 3 classes',
    ),
    'head': (['{config}', '{checkpoint}'], {'model.decode_head.channels': 12}, r'does not fit .* has shape \(8, '),
    'tta': (['{config}', '{checkpoint}', '--tta'], {}, '--tta needs tta_model and tta_pipeline'),
    'no data': (['{config}', '{checkpoint}'], {'test_dataloader': None}, 'nothing to evaluate on: set test_dataloader'),
    'out index': (
        ['{config}', '{checkpoint}'],
        {'model.backbone.out_indices': [9]},
        'an out index must be .*, got 9',
    ),
    'architecture': (
        ['{config}', '{checkpoint}'],
        {'model.backbone.anchors.0.embed_dim': 12},
        'another architecture.*shape',
    ),
}


@pytest.mark.parametrize('what', BAD_INPUT)
def test_bad_input_of_an_evaluation_is_told_in_one_line(trained, config_file, run_tool, what):
    config, checkpoint = trained
    args, changes, message = BAD_INPUT[what]
    config = config_file(**changes)
    args = [arg.format(config=config, checkpoint=checkpoint) for arg in args]
    if what == 'config':
        args.append(checkpoint)
    with pytest.raises(SystemExit) as stopped:
        run_tool('test', *args)
    assert_one_line(stopped.value, message)


BAD_TRAINING = {
    'one anchor': ({}, 'needs two or more anchors.*got 1'),
    'weight file': (
        {'model.backbone.anchors.0': dict(pretrained=True, pretrained_cfg_overlay=dict(file='missing.pth'))},
        "no weight file 'missing.pth'",
    ),
    'classes': ({'model.decode_head.num_classes': 7}, 'num_classes=7, but the data set has 3 classes'),
    'head width': (
        {'model.decode_head.in_channels': 8},
        'in_channels=8, but every route has levels of the widest anchor, 16 channels: set in_channels to 16',
    ),
    'no model': ({}, "dict with the name of a timm model as 'model', got {.*'depth': 2.*}"),
    'anchor checkpoint': (
        {'model.backbone.anchors.0.init_cfg': dict(type='Pretrained', checkpoint='missing.pth')},
        "no checkpoint 'missing.pth', from which anchor .* starts: train it first",
    ),
    'patch size': ({'model.backbone.anchors.0.patch_size': 16}, r'differ in patch size: \(16, 16\) and \(8, 8\)'),
    'prefix tokens': ({'model.backbone.anchors.0.reg_tokens': 4}, 'prefix tokens .*: 5 and 1'),
    'small image': (
        {'crop_size': (4, 4), 'model.data_preprocessor.size': (4, 4)},
        '4x4 is smaller than a patch of 8x8',
    ),
}


@pytest.mark.parametrize('what', BAD_TRAINING)
def test_bad_input_of_a_training_is_told_in_one_line(make_config, run_tool, tmp_path, what):
    changes, message = BAD_TRAINING[what]
    cfg = make_config(**changes)
    if what == 'one anchor':
        cfg.model.backbone.anchors = cfg.model.backbone.anchors[:1]
    if what == 'no model':
        del cfg.model.backbone.anchors[0]['model']
    cfg.dump(tmp_path / 'toy.py')
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', tmp_path / 'toy.py')
    assert_one_line(stopped.value, message)
    assert not list((tmp_path / 'work_dir').glob('*.pth'))


def test_interrupted_training_keeps_its_last_checkpoint_and_goes_on(config_file, run_tool, tmp_path):
    config = config_file(**{'train_cfg.max_iters': 100_000, 'default_hooks.checkpoint.max_keep_ckpts': 2})
    # Where the tests themselves run in the background, they ignore interrupts, and so would what they start.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, ROOT / 'tools' / 'train.py', config]
    last = tmp_path / 'work_dir' / 'last_checkpoint'
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as process:
        try:
            deadline = time.time() + 120
            while not last.exists() and time.time() < deadline and process.poll() is None:
                time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert 'interrupted' in errors.splitlines()[-1]
    checkpoint = Path(last.read_text())
    iteration = torch.load(checkpoint, weights_only=True)['meta']['iter']
    resumed = config_file(**{'train_cfg.max_iters': iteration + 2})
    run_tool('train', resumed, '--resume')
    assert (tmp_path / 'work_dir' / f'iter_{iteration + 2}.pth').exists()


@pytest.mark.skipif(
    not (ROOT / 'mmsnnet' / '.mim' / 'tools').exists(), reason='needs an install: bash tools/run_tests.sh'
)
@pytest.mark.parametrize(
    ('package', 'job', 'iterations'),
    [
        ('mmsegmentation', 'make_config', 4),
        ('mmdet', 'make_detection_config', 3),
        ('mmpretrain', 'make_classification_config', 4),
    ],
)
def test_mim_trains_and_tests(package, job, iterations, request, tmp_path):
    def mim(*words) -> str:
        command = [sys.executable, '-m', 'mim', *map(str, words)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    config = tmp_path / 'toy.py'
    request.getfixturevalue(job)().dump(config)
    mim('train', package, config, '--launcher', 'none', '--gpus', '0', '--work-dir', tmp_path / 'mim')
    checkpoint = tmp_path / 'mim' / f'iter_{iterations}.pth'
    assert checkpoint.exists()
    # MMDetection's own script imports mmcv's operators before it reads the config: it needs compiled mmcv. On ranks,
    # `mim train mmsnnet` runs, too.
    tester = 'mmsnnet' if package == 'mmdet' else package
    mim('test', tester, config, '--checkpoint', checkpoint, '--gpus', '0', '--work-dir', tmp_path / 'tested')
    assert len(read_records(next((tmp_path / 'tested').glob('**/stitches.json')))) == 4


@pytest.mark.parametrize('error', [ValueError('zip() argument 2 is shorter'), RuntimeError('mat1 and mat2 shapes')])
def test_our_own_bugs_show_their_traceback(monkeypatch, trained, run_tool, error):
    bug = {'error': error}
    # Python says of such a function that it is written in our file.
    exec(compile('def fail(*_): raise error', loops.__file__, 'exec'), bug)
    monkeypatch.setattr(StitchTestLoop, '_measure_costs', bug['fail'])
    with pytest.raises(type(error)):
        run_tool('test', *trained)


@pytest.mark.parametrize('kind', [UserError, FileNotFoundError])
def test_errors_in_workers_of_data_loaders_are_one_line_too(kind):
    class Broken(Dataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> None:
            raise kind('a.png is gone: put it back')

    with pytest.raises(SystemExit) as stopped:
        command(lambda: next(iter(DataLoader(Broken(), num_workers=1))))()
    assert stopped.value.code == 'error: a.png is gone: put it back'
