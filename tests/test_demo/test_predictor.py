"""Routes on pictures in memory say what MMEngine's test step says of the files."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from toy_demo import TASKS, write_checkpoint

from mmsnnet.demo import RoutePredictor
from mmsnnet.errors import UserError


def first_of(cfg: Config) -> dict:
    """The first sample of a config's test set."""
    return DATASETS.build(cfg.test_dataloader.dataset)[0]


def outputs(sample) -> list[torch.Tensor]:
    """What a sample predicts, of any task."""
    if 'pred_instances' in sample:
        return [sample.pred_instances[key] for key in ('bboxes', 'scores', 'labels')]
    parts = [sample.get(key) for key in ('pred_sem_seg', 'pred_depth_map', 'pred_score') if key in sample]
    return [getattr(part, 'data', part) for part in parts]


@pytest.mark.parametrize('task', TASKS)
def test_a_picture_in_memory_is_predicted_as_its_file_is(request, tmp_path, task):
    cfg = request.getfixturevalue(TASKS[task])()
    predictor = RoutePredictor(cfg.copy(), str(write_checkpoint(cfg, tmp_path / 'model.pth')))
    packed = first_of(cfg)
    path = packed['data_samples'].img_path
    picture = predictor.prepare(cv2.imread(path)[..., ::-1])
    for route in predictor.backbone.space:
        predictor.backbone.set_route(route)
        with torch.no_grad():
            (expected,) = predictor.model.test_step(pseudo_collate([packed]))
        expected = [each.clone() for each in outputs(expected)]
        prediction = predictor.predict(picture, route.id)
        assert prediction.route == route.id
        assert prediction.milliseconds > 0
        actual = outputs(prediction.sample)
        assert len(actual) == len(expected) > 0
        assert all(torch.equal(*pair) for pair in zip(actual, expected, strict=True))


def test_routes_do_not_write_into_what_others_said(make_predictor):
    predictor = make_predictor('segmentation')
    picture = predictor.prepare(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    first = predictor.predict(picture, 0)
    before = outputs(first.sample)[0].clone()
    predictor.predict(picture, 1)
    assert torch.equal(outputs(first.sample)[0], before)
    assert before.shape[-2:] == (40, 50)


def test_large_pictures_are_made_smaller(make_predictor):
    predictor = make_predictor('segmentation')
    picture = predictor.prepare(np.zeros((1200, 1600, 3), np.uint8))
    height, width = picture.inputs.shape[-2:]
    assert height * width <= 1.1 * 4 * 32 * 48
    assert width > height
    assert picture.image.shape == (1200, 1600, 3)
    assert predictor.predict(picture, 0).sample.pred_sem_seg.data.shape[-2:] == picture.samples[0].ori_shape


def test_it_knows_classes_of_the_checkpoint_or_else_of_the_data_set(make_config, tmp_path):
    cfg = make_config()
    of_data = RoutePredictor(cfg.copy(), str(write_checkpoint(cfg, tmp_path / 'a.pth')))
    assert of_data.meta['classes'] == DATASETS.build(cfg.test_dataloader.dataset).metainfo['classes']
    meta = {'dataset_meta': {'classes': ('this', 'that'), 'palette': [[0, 0, 0], [9, 9, 9]]}}
    saved = RoutePredictor(cfg.copy(), str(write_checkpoint(cfg, tmp_path / 'b.pth', meta)))
    assert saved.meta['classes'] == ('this', 'that')


def test_refuses_what_has_no_routes_and_no_pipeline(make_config, tmp_path):
    cfg = make_config()
    path = str(write_checkpoint(cfg, tmp_path / 'model.pth'))
    blind = cfg.copy()
    blind.test_dataloader.dataset.pipeline = []
    with pytest.raises(UserError, match='set test_dataloader'):
        RoutePredictor(blind, path)
    single = cfg.copy()
    single.model.backbone.pop('anchors')
    with pytest.raises(UserError, match='routes of a stitched model'):
        RoutePredictor(single, path)
