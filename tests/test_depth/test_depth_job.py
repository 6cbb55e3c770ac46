"""A stitched depth estimator on MMEngine's runner: data of NYUv2's kind, all routes, and a resumed run."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from toy_job import CROP

import mmsnnet.depth  # noqa: F401
from mmsnnet.building import build_runner
from mmsnnet.errors import UserError
from mmsnnet.stitching import read_records


@pytest.fixture
def make_depth_config(make_config, data_root):
    """The toy segmentor's config, as one of depth: the middle of each image lies nearer than its border."""
    for split in ('train', 'val'):
        (data_root / 'depths' / split).mkdir(parents=True)
        for image in (data_root / 'images' / split).iterdir():
            depth = np.full(CROP, 4000, np.uint16)
            depth[8:24, 12:36] = 2000
            depth[:2] = 0
            cv2.imwrite(str(data_root / 'depths' / split / image.name), depth)

    def make(rescale: float = 1e-3, **changes) -> Config:
        cfg = make_config()
        cfg.model.type = 'DepthEstimator'
        cfg.model.decode_head = dict(type='LinearDepthHead', in_channels=16, num_bins=8, norm_cfg=None)
        cfg.model.data_preprocessor.seg_pad_val = 0
        load = dict(type='LoadDepthAnnotation', depth_rescale_factor=rescale)
        for split in ('train', 'val', 'test'):
            dataset, folder = cfg[f'{split}_dataloader'].dataset, 'train' if split == 'train' else 'val'
            dataset.update(type='NYUDataset', depth_map_suffix='.png')
            dataset.data_prefix = dict(img_path=f'images/{folder}', depth_map_path=f'depths/{folder}')
            del dataset['metainfo']
            dataset.pipeline[1] = load
        cfg.val_evaluator = cfg.test_evaluator = dict(type='LeanDepthMetric', depth_metrics=['rmse', 'd1'])
        cfg.default_hooks.pop('visualization')
        cfg.merge_from_dict(changes)
        return cfg

    return make


def test_routes_train_and_are_evaluated_and_a_resumed_run_counts_on(make_depth_config, tmp_path):
    runner = build_runner(make_depth_config())
    runner.train()
    assert runner.model.decode_head.loss_decode.iterations == 4
    runner = build_runner(make_depth_config(resume=True, **{'train_cfg.max_iters': 6}))
    runner.train()
    assert runner.model.decode_head.loss_decode.iterations == 6
    runner = build_runner(make_depth_config(load_from=str(tmp_path / 'work_dir' / 'iter_6.pth')))
    runner.test()
    (path,) = tmp_path.rglob('stitches.json')
    records = read_records(path)
    assert len(records) == 4
    assert all(0 < record.metrics['rmse'] < 10 for record in records)


def test_depth_in_millimetres_is_refused_before_training(make_depth_config):
    with pytest.raises(UserError, match=r'have a median of 4000, but the head predicts 0\.001 to 10 metres'):
        build_runner(make_depth_config(rescale=1.0)).train()
