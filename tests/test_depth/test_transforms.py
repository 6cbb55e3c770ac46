"""Transforms of images with depth, and the pipelines of NYUv2."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, init_default_scope

from mmsnnet.depth import CheckDepth, GammaColorJitter, NYUCrop
from mmsnnet.errors import UserError

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/nyu_416x544.py'


def sample(height: int = 480, width: int = 640, **changes) -> dict:
    """What loading leaves: an image, and depth from 1 to 9 m of which a tenth is 0."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (height, width)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.1] = 0
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return dict(
        img=image, gt_depth_map=depth, seg_fields=['gt_depth_map'], img_path='a.jpg', depth_map_path='a.png', **changes
    )


@pytest.fixture
def nyu(tmp_path) -> Config:
    """The data set's config, over one frame for training and testing; depth from 1 to 9 m."""
    depth = (sample()['gt_depth_map'] * 1000).round().astype(np.uint16)
    for part in ('train', 'test'):
        for kind, name, array in (('images', 'cafe_1.jpg', sample()['img']), ('annotations', 'cafe_1.png', depth)):
            path = tmp_path / kind / part / name
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), array)
    init_default_scope('mmseg')
    cfg = Config.fromfile(CONFIG)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(tmp_path)
    return cfg


def test_nyu_crop_leaves_the_part_with_depth():
    before, after = sample(), NYUCrop()(sample())
    for key in ('img', 'gt_depth_map'):
        assert (after[key] == before[key][45:472, 43:608]).all()
        assert after[key].shape[:2] == after['img_shape'] == (427, 565)


def test_nyu_crop_refuses_other_sizes():
    with pytest.raises(UserError, match=r'NYUCrop needs images of 640 x 480 pixels, but a\.jpg has 128 x 96: leave'):
        NYUCrop()(sample(96, 128))


def test_depth_of_another_size_or_kind_is_refused():
    good = sample(6, 8)
    assert CheckDepth()(dict(good)) == good
    with pytest.raises(UserError, match=r'a\.jpg has 8 x 6 pixels, but a\.png has 8 x 5: a depth map needs the size'):
        CheckDepth()(good | dict(gt_depth_map=good['gt_depth_map'][:5]))
    with pytest.raises(UserError, match=r'a\.png has 3 channels, but a depth map has one: save it as grey PNG of 16'):
        CheckDepth()(good | dict(gt_depth_map=np.zeros((6, 8, 3))))


def test_jitter_multiplies_powers_of_values():
    image = sample(6, 8)['img']
    constant = dict(prob=1, gamma=(1, 1), brightness=(1, 1), color=(1, 1))
    assert (GammaColorJitter(**constant)(dict(img=image))['img'] == image).all()
    for white in (255, 1):
        expected = white * (image / white) ** 0.9 * 1.2
        changed = GammaColorJitter(**constant | dict(gamma=(0.9, 0.9), brightness=(1.2, 1.2)), white=white)
        result = changed(dict(img=image))['img']
        assert result.dtype == np.uint8
        assert abs(result - expected.clip(0, 255)).max() <= 0.5


def test_jitter_draws_each_channel_and_stays_in_its_ranges():
    np.random.seed(0)
    grey = np.full((1, 1, 3), 100, np.uint8)
    colours = [GammaColorJitter(prob=1, gamma=(1, 1))(dict(img=grey))['img'].ravel() for _ in range(300)]
    assert np.min(colours) in range(67, 75)
    assert np.max(colours) in range(130, 139)
    assert all(len(set(np.transpose(colours)[channel])) > 30 for channel in range(3))
    assert 1.1 < max(max(colour) / min(colour) for colour in colours) < 1.26


def test_jitter_changes_the_given_share_of_images_and_only_the_image():
    np.random.seed(0)
    jitter, before = GammaColorJitter(prob=0.3), sample(6, 8)
    after = [jitter(dict(before)) for _ in range(300)]
    share = np.mean([(each['img'] != before['img']).any() for each in after])
    assert share == pytest.approx(0.3, abs=0.08)
    assert all(each['gt_depth_map'] is before['gt_depth_map'] for each in after)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(gamma=(1.1, 0.9)), r'gamma must be a lowest and a highest number, such as \(0\.9, 1\.1\), got \(1\.1'),
        (dict(brightness=1.2), r'brightness must be a list such as \(0\.9, 1\.1\), got 1\.2'),
        (dict(color=(0, 1)), r'color must be a number above 0, got 0'),
        (dict(white=0), r'white must be a number above 0, got 0'),
    ],
)
def test_jitter_refuses_settings_that_cannot_be(settings, message):
    with pytest.raises(UserError, match=message):
        GammaColorJitter(**settings)


def test_training_samples_of_nyu_have_no_depth_that_was_not_measured(nyu):
    dataset = DATASETS.build(nyu.train_dataloader.dataset)
    measured = np.unique(dataset.pipeline.transforms[1](dataset.get_data_info(0))['gt_depth_map'])
    np.random.seed(0)
    for _ in range(8):
        packed = dataset[0]
        depth = packed['data_samples'].gt_depth_map.data
        assert packed['inputs'].shape == (3, 416, 544)
        assert packed['inputs'].dtype == torch.uint8
        assert depth.shape == (1, 416, 544)
        assert depth.dtype == torch.float32
        assert np.isin(depth.numpy(), measured).all()


def test_image_and_depth_move_together(nyu):
    """Both turn by the same angle, flip and are cropped alike: an image of the depth stays one."""
    moves = Compose([step for step in nyu.train_pipeline[3:-1] if step.type != 'mmsnnet.GammaColorJitter'])
    np.random.seed(0)
    flips = set()
    for _ in range(8):
        before = sample()
        rows, columns = np.mgrid[:480, :640].astype(np.float32)
        before['gt_depth_map'] = rows / 100 + columns / 100 + 1
        before['img'] = (before['gt_depth_map'] * 20).astype(np.uint8)[..., None].repeat(3, axis=2)
        after = moves(before)
        inside = after['gt_depth_map'] > 0
        difference = after['img'][..., 0][inside] - after['gt_depth_map'][inside] * 20
        # The image's edge mixes with what is beyond it.
        assert np.quantile(abs(difference), 0.99) < 2
        flips.add(after['flip'])
    assert flips == {False, True}


def test_test_samples_of_nyu_are_whole_and_nothing_says_flip(nyu):
    packed = DATASETS.build(nyu.val_dataloader.dataset)[0]
    assert packed['inputs'].shape == (3, 480, 640)
    depth = packed['data_samples'].gt_depth_map.data
    assert abs(depth[0].numpy() - sample()['gt_depth_map']).max() < 1e-3
    assert packed['data_samples'].get('flip') is None
    assert packed['data_samples'].ori_shape == (480, 640)
