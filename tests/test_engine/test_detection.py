"""Detection on MMDetection's runner: training, all routes in one pass, records, and what it says of bad input."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from toy_detection_job import SIZE

from mmsnnet.building import load_weights
from mmsnnet.evaluation import RouteResults
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.stitching import Route, read_records

KEYS = [f'coco/{kind}_mAP{suffix}' for kind in ('bbox', 'segm') for suffix in ('', '_50', '_75', '_s', '_m', '_l')]


def trained(make_config) -> tuple[Runner, Path]:
    """A runner that has trained three iterations, and its checkpoint."""
    runner = Runner.from_cfg(make_config())
    runner.train()
    return runner, Path(runner.work_dir, 'iter_3.pth')


def test_of(cfg, checkpoint: Path) -> tuple[Runner, dict]:
    cfg.load_from = str(checkpoint)
    runner = Runner.from_cfg(cfg)
    return runner, runner.test()


test_of.__test__ = False


def test_trains_on_coco_with_all_its_oddities(make_detection_config):
    """An image without objects, a grey one, a crowd, an object without area are among its eight images."""
    runner, checkpoint = trained(make_detection_config)
    losses = {key for key in runner.message_hub.log_scalars if key.startswith('train/loss')}
    assert {f'train/loss_{part}' for part in ('rpn_cls', 'rpn_bbox', 'cls', 'bbox', 'mask')} <= losses
    assert all(np.isfinite(runner.message_hub.get_scalar(key).current()) for key in losses)
    assert torch.load(checkpoint, weights_only=True)['state_dict']


@pytest.fixture
def detections(monkeypatch) -> dict[str, list]:
    """Fills with what the metric gets of every route: metrics alone are zero, where little was learnt."""
    found: dict[str, list] = {}
    load = RouteResults.load

    def remember(results: RouteResults, route: Route) -> list[list]:
        loaded = load(results, route)
        found[route.name] = [prediction for _, prediction in loaded[0]]
        return loaded

    monkeypatch.setattr(RouteResults, 'load', remember)
    return found


def assert_same_detections(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert len(one['scores'])
        assert one['masks'] == other['masks']
        for key in ('scores', 'labels', 'bboxes'):
            np.testing.assert_array_equal(one[key], other[key])


def test_one_pass_equals_testing_route_by_route(make_detection_config, detections):
    _, checkpoint = trained(make_detection_config)
    runner, metrics = test_of(make_detection_config(), checkpoint)
    together = dict(detections)
    space = find_backbone(runner.model).space
    assert together.keys() == {route.name for route in space}
    for route in space:
        _, alone = test_of(make_detection_config(**{'test_cfg.routes': [route.id]}), checkpoint)
        assert_same_detections(together[route.name], detections[route.name])
        for key in KEYS:
            assert metrics[f'{route.log_name}/{key}'] == alone[key]
    scores = [np.concatenate([image['scores'] for image in images]) for images in together.values()]
    assert all(not np.array_equal(scores[0], others) for others in scores[1:])
    assert all(metrics[key] == metrics[f'{space[1].log_name}/{key}'] for key in KEYS)


def test_records_have_every_metric_and_cost(make_detection_config):
    _, checkpoint = trained(make_detection_config)
    runner, _ = test_of(make_detection_config(), checkpoint)
    records = read_records(Path(runner.test_loop.out_dir, 'stitches.json'))
    assert len(records) == len(find_backbone(runner.model).space)
    for record in records:
        assert set(record.metrics) >= set(KEYS)
        assert record.gflops > 0
    costs = route_costs(runner.model, (SIZE, SIZE))
    assert [record.gflops for record in records] == costs.gflops


@pytest.mark.parametrize('killed_at', [3, 7])
def test_a_killed_test_resumes_to_the_same_records(make_detection_config, monkeypatch, detections, killed_at):
    _, checkpoint = trained(make_detection_config)
    monkeypatch.setattr(RouteResults, 'flush_seconds', 0)
    cfg = make_detection_config(**{'test_cfg.out_dir': str(checkpoint.parent / 'out')})
    path = checkpoint.parent / 'out' / 'stitches.json'
    test_of(cfg, checkpoint)
    expected, uninterrupted = path.read_bytes(), dict(detections)
    path.unlink()
    steps, step_done = [], RouteResults.step_done

    def killed(results: RouteResults) -> None:
        step_done(results)
        steps.append(1)
        if len(steps) == killed_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RouteResults, 'step_done', killed)
        with pytest.raises(KeyboardInterrupt):
            test_of(cfg, checkpoint)
    cfg.test_cfg.resume = True
    test_of(cfg, checkpoint)
    assert path.read_bytes() == expected
    for name, images in uninterrupted.items():
        assert_same_detections(detections[name], images)


def test_mmdetection_s_inference_runs_the_route_that_is_set(make_detection_config, coco_root):
    from mmdet.apis import inference_detector, init_detector

    _, checkpoint = trained(make_detection_config)
    cfg = make_detection_config()
    model = init_detector(cfg, str(checkpoint), device='cpu', palette='random')
    photo = cv2.imread(str(coco_root / 'val/images/3.png'))
    backbone = find_backbone(model)
    found = {}
    for route in backbone.space:
        backbone.set_route(route)
        found[route.name] = inference_detector(model, photo).pred_instances
    assert all(len(instances) and instances.masks.shape[1:] == photo.shape[:2] for instances in found.values())
    small, large = (found[backbone.space[index].name] for index in range(2))
    assert not torch.equal(small.scores, large.scores)


def test_checkpoint_fits_tools(make_detection_config):
    runner, checkpoint = trained(make_detection_config)
    meta = load_weights(runner.model, str(checkpoint))
    assert meta['dataset_meta']['CLASSES' if 'CLASSES' in meta['dataset_meta'] else 'classes']


# Bad input


def edit_annotations(root: Path, edit) -> None:
    for split in ('train', 'val'):
        path = root / split / 'annotations.json'
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))


@pytest.mark.parametrize('phase', ['train', 'test'])
def test_annotations_without_masks_are_refused(make_detection_config, coco_root, phase):
    edit_annotations(coco_root, lambda content: [a.pop('segmentation') for a in content['annotations']])
    message = r'annotations\.json has boxes without masks, but the model trains on masks or is evaluated on them: use'
    with pytest.raises(ValueError, match=message):
        getattr(Runner.from_cfg(make_detection_config()), phase)()


def test_annotations_without_a_category_are_refused(make_detection_config, coco_root):
    edit_annotations(coco_root, lambda content: content['categories'].pop())
    with pytest.raises(ValueError, match="has categories for 1 of the data set's 2 classes"):
        Runner.from_cfg(make_detection_config()).train()


@pytest.mark.parametrize('head', ['bbox_head', 'mask_head'])
def test_classes_that_the_head_lacks_are_refused(make_detection_config, head):
    cfg = make_detection_config(**{f'model.roi_head.{head}.num_classes': 1})
    with pytest.raises(ValueError, match=f'roi_head.{head} has num_classes=1, but the data set has 2 classes'):
        Runner.from_cfg(cfg).train()


def test_two_output_levels_are_refused_by_the_pyramid(make_detection_config):
    cfg = make_detection_config(**{'model.backbone.out_indices': (1, 3)})
    with pytest.raises(ValueError, match='the maps that the backbone gives are 2'):
        Runner.from_cfg(cfg).train()


def test_images_beyond_the_padded_size_keep_their_size(make_detection_config):
    """Padding never shrinks: windows and positions fit any map."""
    _, checkpoint = trained(make_detection_config)
    cfg = make_detection_config()
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (2 * SIZE, 2 * SIZE)
    cfg.test_dataloader.batch_size = 1
    cfg.load_from = str(checkpoint)
    runner = Runner.from_cfg(cfg)
    sizes = []
    find_backbone(runner.model).register_forward_pre_hook(lambda _, images: sizes.append(tuple(images[0].shape[2:])))
    runner.test()
    # Four routes saw each of five images, beside what the measurement of costs saw.
    assert sizes.count((2 * SIZE, 2 * SIZE)) >= 20
    assert sizes.count((SIZE, SIZE)) == 0


def test_strides_of_another_patch_size_are_refused(make_detection_config):
    cfg = make_detection_config(**{'model.roi_head.mask_roi_extractor.featmap_strides': [4, 8, 16, 32]})
    with pytest.raises(
        ValueError, match=r'mask_roi_extractor has strides \[4, 8, 16, 32\], .* has \[2, 4, 8, 16, 32\]'
    ):
        Runner.from_cfg(cfg).train()
    strides = [4, 8, 16, 32, 64]
    cfg = make_detection_config(**{'model.rpn_head.anchor_generator.strides': strides})
    with pytest.raises(ValueError, match=r'rpn_head has strides \[4, 8, 16, 32, 64\]'):
        Runner.from_cfg(cfg).train()


def test_validation_data_are_checked_before_training(make_detection_config, coco_root):
    path = coco_root / 'val' / 'annotations.json'
    content = json.loads(path.read_text())
    content['categories'].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"val/annotations\.json has categories for 1 of the data set's 2 classes"):
        Runner.from_cfg(make_detection_config()).train()


def test_boxes_alone_can_be_tested_on_annotations_without_masks(make_detection_config, coco_root):
    _, checkpoint = trained(make_detection_config)
    edit_annotations(coco_root, lambda content: [a.pop('segmentation') for a in content['annotations']])
    cfg = make_detection_config(**{'test_evaluator.metric': 'bbox'})
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'LoadAnnotations':
            step.with_mask = False
    _, metrics = test_of(cfg, checkpoint)
    assert 'coco/bbox_mAP' in metrics


def test_boxes_without_area_do_not_train(make_detection_config):
    runner = Runner.from_cfg(make_detection_config())
    dataset = runner.build_dataloader(runner.cfg.train_dataloader).dataset
    boxes = [
        instance['bbox'] for info in map(dataset.get_data_info, range(len(dataset))) for instance in info['instances']
    ]
    assert boxes
    assert all(x2 > x1 and y2 > y1 for x1, y1, x2, y2 in boxes)
