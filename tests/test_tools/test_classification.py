"""A stitched classifier through the command lines: train, evaluate, export, and train beside finished anchors."""

import json
import re
from pathlib import Path

import cv2
import pytest
import timm
import torch
from mmengine.config import ConfigDict
from toy_classification_job import CLASSES, SIZE, swin_backbone, teach
from toy_job import assert_one_line
from toys import randomise

from mmsnnet.building import build_model
from mmsnnet.engine import configured_input_shape
from mmsnnet.errors import UserError
from mmsnnet.stitching import read_records

ROUTE = 'l[0:2]-s[1:2]'
PAGE = Path(__file__).parents[2] / 'docs' / 'classification.md'


@pytest.fixture
def write(make_classification_config, tmp_path):
    """The toy config as a file; keywords are merged into it."""

    def run(name: str = 'toy', **changes) -> Path:
        make_classification_config(work_dir=str(tmp_path / name), **changes).dump(tmp_path / f'{name}.py')
        return tmp_path / f'{name}.py'

    return run


def test_swins_train_score_in_one_pass_and_are_exported(write, run_tool, tmp_path):
    config = write('swin', **{'model.backbone': swin_backbone()})
    run_tool('train', config)
    checkpoint = config.with_suffix('') / 'iter_4.pth'
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'alone')
    in_one_pass = write('pass', **{'model.backbone': swin_backbone(), 'test_cfg.route_batch': 4})
    run_tool('test', in_one_pass, checkpoint, '--work-dir', tmp_path / 'together')
    alone = scores(tmp_path / 'alone')
    assert list(alone) == ['s[0:4]', 'l[0:6]', 's[0:1]-l[1:6]', 's[0:2]-l[2:6]']
    assert scores(tmp_path / 'together') == alone
    run_tool(
        'export', config, checkpoint, '--route', 's[0:2]-l[2:6]', '--out', tmp_path / 'route', '--torch-export',
        '--onnx', '--repetitions', 1,
    )  # fmt: skip
    report = json.loads((tmp_path / 'route' / 'export.json').read_text())
    assert {Path(file['file']).suffix for file in report['files']} >= {'.onnx', '.pt2'}
    assert all(file['max_abs_difference'] < 1e-5 for file in report['files'])


@pytest.fixture
def trained(write, run_tool) -> tuple[Path, Path]:
    config = write()
    run_tool('train', config)
    return config, config.with_suffix('') / 'iter_4.pth'


def scores(folder: Path) -> dict[str, dict]:
    return {record.name: record.metrics for record in read_records(folder / 'stitches.json')}


def test_routes_score_alike_alone_in_one_pass_and_exported(trained, run_tool, write, tmp_path):
    config, checkpoint = trained
    run_tool('test', config, checkpoint, '--work-dir', tmp_path / 'alone')
    in_one_pass = write('pass', **{'test_cfg.route_batch': 4})
    run_tool('test', in_one_pass, checkpoint, '--work-dir', tmp_path / 'together')
    alone = scores(tmp_path / 'alone')
    assert len(alone) == 4
    assert set(alone[ROUTE]) == {'accuracy/top1', 'accuracy/top2'}
    assert scores(tmp_path / 'together') == alone
    run_tool(
        'export', config, checkpoint, '--route', ROUTE, '--out', tmp_path / 'route', '--torch-export',
        '--repetitions', 1,
    )  # fmt: skip
    report = json.loads((tmp_path / 'route' / 'export.json').read_text())
    assert all(file['max_abs_difference'] < 1e-5 for file in report['files'])
    run_tool('test', tmp_path / 'route' / 'slim.py', tmp_path / 'route' / 'slim.pth', '--work-dir', tmp_path / 'slim')
    assert list(scores(tmp_path / 'slim').values()) == [alone[ROUTE]]


def test_a_resumed_run_ends_like_one_that_never_stopped(trained, write, run_tool):
    _, checkpoint = trained
    again = write('again', **{'load_from': str(checkpoint.with_name('iter_2.pth')), 'resume': True})
    run_tool('train', again)
    weights, expected = (torch.load(path)['state_dict'] for path in (again.with_suffix('') / 'iter_4.pth', checkpoint))
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


@pytest.fixture
def write_taught(make_classification_config, tmp_path):
    """The toy config with a teacher as a file; keywords are merged into it."""

    def run(name: str = 'taught', **changes) -> Path:
        cfg = teach(make_classification_config(work_dir=str(tmp_path / name)), tmp_path)
        cfg.merge_from_dict(changes)
        cfg.dump(tmp_path / f'{name}.py')
        return tmp_path / f'{name}.py'

    return run


def test_a_teacher_teaches_also_after_a_resume_and_leaves_with_the_training(write_taught, run_tool, tmp_path):
    config = write_taught()
    run_tool('train', config)
    expected = torch.load(config.with_suffix('') / 'iter_4.pth')['state_dict']
    again = write_taught('again', load_from=str(config.with_suffix('') / 'iter_2.pth'), resume=True)
    run_tool('train', again)
    resumed = torch.load(again.with_suffix('') / 'iter_4.pth')['state_dict']
    other, weights = write_taught('other'), torch.load(tmp_path / 'teacher.pth')
    # Another teacher, whose answer is always the next class.
    rolled = {name: value.roll(1, 0) for name, value in weights.items() if name.startswith('head.')}
    torch.save(weights | rolled, tmp_path / 'teacher.pth')
    run_tool('train', other)
    differs = torch.load(other.with_suffix('') / 'iter_4.pth')['state_dict']
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
    assert any(not torch.equal(differs[name], value) for name, value in expected.items())
    (tmp_path / 'teacher.pth').unlink()
    run_tool('test', config, config.with_suffix('') / 'iter_4.pth', '--work-dir', tmp_path / 'all')
    run_tool(
        'export', config, config.with_suffix('') / 'iter_4.pth', '--route', ROUTE, '--out', tmp_path / 'route',
        '--repetitions', 1,
    )  # fmt: skip
    run_tool('test', tmp_path / 'route' / 'slim.py', tmp_path / 'route' / 'slim.pth', '--work-dir', tmp_path / 'slim')
    assert list(scores(tmp_path / 'slim').values()) == [scores(tmp_path / 'all')[ROUTE]]
    run_tool('memory', config)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.teacher.file': 'none.pth'}, "no weight file of the teacher at 'none.pth'"),
        ({'model.teacher.num_classes': 4}, "timm cannot create the teacher 'vit_tiny_patch16_224' .*size mismatch"),
    ],
)
def test_training_refuses_a_teacher_in_one_line(write_taught, run_tool, changes, message):
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', write_taught(**changes))
    assert_one_line(stopped.value, message)


@pytest.mark.parametrize(
    ('model', 'num_classes', 'message'),
    [
        (
            'vit_tiny_patch16_224',
            5,
            r'for \(classes, channels\) \(5, 8\), the head for \(3, 8\): leave out its init_cfg',
        ),
        ('vit_small_patch16_dinov3', 0, "'vit_small_patch16_dinov3' has no classifier: leave out init_cfg"),
    ],
)
def test_training_refuses_a_classifier_in_one_line(write, run_tool, tmp_path, model, num_classes, message):
    arguments = dict(img_size=SIZE, patch_size=8, embed_dim=8, depth=2, num_heads=2, num_classes=num_classes)
    torch.save(timm.create_model(model, **arguments).state_dict(), tmp_path / 'weights.pth')
    init_cfg = dict(arguments, type='TimmClassifier', model=model, file=str(tmp_path / 'weights.pth'))
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', write(**{'model.head.heads.0.init_cfg': init_cfg}))
    assert_one_line(stopped.value, message)


def test_finished_anchors_stay_and_a_focus_chooses(make_classification_config, run_tool, tmp_path):
    """Law 11 for classifiers."""
    cfg = make_classification_config(work_dir=str(tmp_path / 'exact'))
    cfg.model.backbone.update(exact='adapters', adapter_rank=2)
    cfg.model.head.exact = True
    cfg.custom_hooks[0].focus = dict(routes=1, images=4)
    start = tmp_path / 'start.pth'
    torch.save({'state_dict': randomise(build_model(cfg.copy())).state_dict()}, start)
    cfg.load_from = str(start)
    cfg.dump(tmp_path / 'exact.py')
    run_tool('train', tmp_path / 'exact.py')
    content = torch.load(tmp_path / 'exact' / 'iter_4.pth')
    for name, value in torch.load(start)['state_dict'].items():
        if '.anchors.' in name:
            assert torch.equal(content['state_dict'][name], value), name
    assert len(content['trained_routes']) == 3


@pytest.mark.parametrize(
    ('step', 'size'),
    [
        (dict(type='CenterCrop', crop_size=24), (24, 24)),
        (dict(type='CenterCrop', crop_size=(48, 32)), (32, 48)),
        (dict(type='Resize', scale=(48, 32)), (32, 48)),
    ],
)
def test_the_size_is_that_of_the_last_step_that_sets_one(make_classification_config, step, size):
    cfg = make_classification_config()
    cfg.test_dataloader.dataset.pipeline[2] = ConfigDict(step)
    assert configured_input_shape(build_model(cfg), cfg) == size


@pytest.mark.parametrize(
    ('step', 'size'),
    [
        (dict(type='RandomResizedCrop', scale=24), (24, 24)),
        (dict(type='RandomResizedCrop', scale=(32, 48)), (32, 48)),
        (dict(type='mmpretrain.RandomCrop', crop_size=(32, 48)), (32, 48)),
        (dict(type='RandomCrop', crop_size=24, padding=4), (24, 24)),
        (dict(type='Resize', scale=(48, 32)), (32, 48)),
    ],
)
def test_training_sets_the_size_where_testing_does_not(make_classification_config, step, size):
    cfg = make_classification_config()
    cfg.train_dataloader.dataset.pipeline[1] = ConfigDict(step)
    model = build_model(cfg)
    assert configured_input_shape(model, cfg) == (32, 32)
    del cfg.test_dataloader.dataset.pipeline[1:3]
    assert configured_input_shape(model, cfg) == size


def test_crops_of_other_tasks_set_no_size(make_config):
    """MMDetection's crops may leave images smaller."""
    cfg = make_config()
    cfg.train_dataloader.dataset.pipeline.insert(1, ConfigDict(type='RandomCrop', crop_size=(32, 48)))
    model = build_model(cfg)
    model.data_preprocessor.size = None
    with pytest.raises(UserError, match='the input size at which to measure costs is unknown'):
        configured_input_shape(model, cfg)


def test_a_data_set_may_name_its_folder_in_one_word(write, classes_root, run_tool):
    """As MMPretrain's data sets take it: ``data_prefix='val'``."""

    def config(folder: str) -> Path:
        parts = {
            f'{part}_dataloader.dataset': dict(
                data_root=str(classes_root), data_prefix='train' if part == 'train' else folder
            )
            for part in ('train', 'val', 'test')
        }
        return write(**parts)

    run_tool('train', config('val'))
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', config('validation'))
    assert_one_line(stopped.value, 'no data at .*/classes/validation: ')


def test_classes_that_are_not_the_folders_are_refused(write, classes_root, run_tool, tmp_path):
    """MMPretrain compares their numbers alone, and shows a traceback."""
    metainfo = {f'{part}_dataloader.dataset.metainfo.classes': ['dark', 'light', 'red'] for part in ('train', 'val')}
    run_tool('train', write(**metainfo))
    for wrong in (['dark', 'light'], ['light', 'dark', 'red']):
        config = write(**{**metainfo, 'val_dataloader.dataset.metainfo.classes': wrong})
        with pytest.raises(SystemExit) as stopped:
            run_tool('train', config)
        folders = r"/classes/val has the folders \['dark', 'light', 'red'\], but its classes are "
        assert_one_line(stopped.value, f'{folders}.*: set classes to the names of the folders, in this order')
    (classes_root / 'val' / 'red').rename(tmp_path / 'red')
    with pytest.raises(SystemExit) as stopped:
        run_tool('train', write(**metainfo))
    assert_one_line(stopped.value, r"/classes/val has the folders \['dark', 'light'\], .* an empty folder for a class")


def test_an_exported_route_runs_on_a_picture_as_the_page_says(
    trained, run_tool, classes_root, tmp_path, monkeypatch, capsys
):
    pytest.importorskip('onnxscript')
    run_tool('export', *trained, '--route', ROUTE, '--out', tmp_path / 'route', '--onnx', '--repetitions', 1)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('photo.jpg', cv2.imread(str(classes_root / 'val' / 'red' / '0.png')))
    blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
    by_mmpretrain, by_onnxruntime = (block for block in blocks if 'photo.jpg' in block)
    capsys.readouterr()
    names = {}
    exec(by_mmpretrain, names)
    expected = names['result']
    assert capsys.readouterr().out.endswith(f'{expected["pred_class"]} {expected["pred_score"]}\n')
    for ours, theirs in (
        (r'CLASSES = .*', f'CLASSES = {CLASSES}'),
        (r'\(48, 48\)', f'({SIZE}, {SIZE})'),
        (r'\[123.675, 116.28, 103.53\]', '[120.0] * 3'),
        (r'\[58.395, 57.12, 57.375\]', '[60.0] * 3'),
    ):
        by_onnxruntime, count = re.subn(ours, theirs, by_onnxruntime)
        assert count == 1
    exec(by_onnxruntime, names)
    assert capsys.readouterr().out == f'{expected["pred_class"]}\n'
    scores = torch.softmax(torch.from_numpy(names['logits'][0]), 0)
    torch.testing.assert_close(scores.tolist(), expected['pred_scores'].tolist(), rtol=1e-4, atol=1e-5)
