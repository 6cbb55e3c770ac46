"""Pairs that ``tools/stitch.py`` refuses: one line says why, and no file is written."""

from collections.abc import Callable

import pytest
import torch
from mmengine.config import Config, ConfigDict
from toy_job import assert_one_line
from toy_pairs import anchors, classifiers, segmenters, upernets


def of_small(**changes) -> Callable[[Config, int], None]:
    """Change the small model's config."""
    return lambda cfg, index: None if index else cfg.merge_from_dict(changes)


def listed_by(which: int) -> Callable[[Config, int], None]:
    """One of the models has its auxiliary head in a list."""

    def change(cfg: Config, index: int) -> None:
        if index == which:
            cfg.model.auxiliary_head = [cfg.model.auxiliary_head]

    return change


def mean_at_the_top(cfg: Config, index: int) -> None:
    """MMEngine takes a data preprocessor beside the model, too."""
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.data_preprocessor.mean = [float(index)] * 3


@pytest.mark.parametrize(
    ('kind', 'change', 'message'),
    [
        (
            anchors,
            of_small(**{'model.backbone.anchor.patch_size': 16}),
            r'differ in patch size: \(16, 16\) and \(8, 8\)',
        ),
        (
            anchors,
            of_small(**{'model.backbone.anchor.model': 'vit_tiny_patch16_224', 'model.backbone.anchor.reg_tokens': 2}),
            r'differ in number of prefix tokens .*: 3 and 1',
        ),
        (
            anchors,
            of_small(**{'model.backbone.anchor.model': 'beit_base_patch16_224'}),
            'differ in class: Beit and VisionTransformer',
        ),
        (
            anchors,
            of_small(**{'model.decode_head.num_classes': 5, 'model.auxiliary_head.num_classes': 5}),
            r'differ in the number of classes: \[5\] and \[3\]',
        ),
        (anchors, of_small(**{'model.auxiliary_head': None}), r"differ in their parts: \['decode_head'\] and"),
        (anchors, of_small(**{'model.data_preprocessor.mean': [1.0] * 3}), 'differ in mean of data_preprocessor'),
        (anchors, of_small(**{'model.data_preprocessor.std': [1.0] * 3}), 'differ in std of data_preprocessor'),
        (anchors, of_small(**{'model.data_preprocessor.bgr_to_rgb': False}), 'differ in bgr_to_rgb'),
        (anchors, mean_at_the_top, 'differ in mean of data_preprocessor'),
        (anchors, of_small(**{'test_dataloader.dataset.reduce_zero_label': True}), 'reduce_zero_label: True and False'),
        (anchors, listed_by(0), r"differ in the number of heads in auxiliary_head: \[1, 'no list'\]"),
        (anchors, listed_by(1), r"differ in the number of heads in auxiliary_head: \['no list', 1\]"),
        (anchors, of_small(**{'model.backbone.final_norm': True}), 'differ in final_norm: True and False'),
        (
            anchors,
            of_small(**{'model.backbone.out_indices': [1], 'model.decode_head.in_index': 0}),
            r'levels do not correspond: .* after blocks \(1,\), but those of the large one, \(1, 3\), .* to \(0, 1\)',
        ),
        (
            anchors,
            of_small(**{'model.backbone.anchor.depth': 6}),
            'small model must come first, but its backbone has 6 blocks',
        ),
        (anchors, of_small(**{'model.type': 'DepthEstimator'}), 'differ in the kind of model: DepthEstimator and'),
        (
            classifiers,
            of_small(**{'model.backbone.out_type': 'cls_and_avg', 'model.head.in_channels': 16}),
            'differ in out_type: cls_and_avg and pooled',
        ),
        (classifiers, of_small(**{'model.data_preprocessor.to_rgb': False}), 'differ in to_rgb of data_preprocessor'),
        (upernets, of_small(**{'model.backbone.out_origin': True}), '0.py: MMSegmentation.s backbone has out_origin'),
    ],
)
def test_refuses_pairs_that_cannot_be_stitched(kind, change, message, make_pair, assert_refused):
    assert_refused(make_pair(kind, change), message)


def test_refuses_models_in_the_wrong_order_and_of_other_classes(make_pair, assert_refused):
    pair = make_pair(anchors)
    small, large = pair.words[:2], pair.words[2:]
    assert_refused(pair, 'its backbone has 4 blocks .* the large one.s 2 .* swap them', large + small)
    assert_refused(pair, 'small model must come first', large + large)
    assert_refused(pair, r'1.pth is of another architecture than .*0.py: ', small[:1] + large[1:] + large)
    content = torch.load(pair.checkpoint(0))
    content['meta'] = {'dataset_meta': dict(classes=('left', 'ground', 'right'))}
    torch.save(content, pair.checkpoint(0))
    assert_refused(pair, 'differ in their classes: ')


def test_refuses_files_that_do_not_serve(make_pair, assert_refused, run_tool, tmp_path, capsys):
    pair = make_pair(anchors)
    for position, what in enumerate(('config', 'checkpoint', 'config', 'checkpoint')):
        words = list(pair.words)
        words[position] = tmp_path / 'none'
        assert_refused(pair, f"no {what} at '{tmp_path / 'none'}'", words)
    (tmp_path / 'empty.py').write_text('x = 1')
    assert_refused(pair, 'empty.py has no model', [tmp_path / 'empty.py', *pair.words[1:]])
    with pytest.raises(SystemExit) as stopped:
        run_tool('stitch', *pair.words, '--out', pair.folder / '1.py')
    assert_one_line(stopped.value, '1.py is one of the given files: choose another --out')
    (pair.folder / 'large.py').write_bytes(pair.words[2].read_bytes())
    with pytest.raises(SystemExit) as stopped:
        run_tool('stitch', *pair.words[:2], pair.folder / 'large.py', pair.words[3], '--out', pair.folder / '1.py')
    assert_one_line(stopped.value, '1.pth is one of the given files: choose another --out')
    for words, message in ((['--out', 'x.txt'], 'must end in .py'), (['--out', 'x.py', '--routes', '-1'], '0 or more')):
        with pytest.raises(SystemExit):
            run_tool('stitch', *pair.words, *words)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        run_tool('stitch', *pair.words, '--out', tmp_path / 'x.py', '--routes', '3')
    assert_one_line(stopped.value, '--routes must be at most 2, the number of routes with a switch, got 3')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(backbone=dict(type='MixVisionTransformer')), 'has a MixVisionTransformer backbone: an anchor must be'),
        (dict(backbone=dict(type='NoSuchThing')), 'cannot build the model of .*0.py: .*NoSuchThing'),
        (dict(text_encoder=dict(type='NoSuchThing')), '0.py has model.text_encoder, which cannot exist once for each'),
    ],
)
def test_refuses_models_it_does_not_know(changes, message, make_pair, assert_refused):
    pair = make_pair(anchors)
    for key, value in changes.items():
        pair.configs[0].model[key] = ConfigDict(value)
    pair.configs[0].dump(pair.folder / '0.py')
    assert_refused(pair, message)


def test_refuses_an_anchor_that_gives_other_features(make_pair, assert_refused, monkeypatch):
    pair = make_pair(segmenters)
    monkeypatch.setattr('tools.stitch.largest_difference', lambda *_: 0.5)
    assert_refused(pair, r'0.py cannot be stitched: as an anchor it gives other features \(0.5\)')
