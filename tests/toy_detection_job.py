"""A toy detection job on MMEngine's runner: COCO annotations with their oddities, Mask R-CNN, tiny windowed anchors."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

ROOT = Path(__file__).parents[1]
SIZE = 64
CLASSES = ('square', 'disc')


def draw_coco(folder: Path, count: int, seed: int) -> None:
    """Images of squares and discs in COCO's format.

    The first image has no object, the second is grey, the third has a crowd, the fourth an object without area.
    """
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    (folder / 'images').mkdir(parents=True)

    def annotate(image_id: int, label: int, box: list[float], **fields) -> None:
        x, y, w, h = box
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        annotations.append(
            {
                'id': len(annotations) + 1,
                'image_id': image_id,
                'category_id': 3 + 4 * label,  # COCO's ids have gaps
                'bbox': box,
                'area': w * h,
                'iscrowd': 0,
                'segmentation': outline,
                **fields,
            }
        )

    for index in range(count):
        height, width = (48, 64) if index % 2 else (64, 56)
        image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
        for label in range(2) if index else ():
            side = int(rng.integers(14, 22))
            x, y = (int(rng.integers(0, limit - side)) for limit in (width, height))
            if label == 0:
                cv2.rectangle(image, (x, y), (x + side, y + side), (255, 80, 80), -1)
            else:
                cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (80, 255, 80), -1)
            annotate(index, label, [x, y, side, side])
        if index == 1:
            image = image[..., 0]
        if index == 2:
            mask = np.zeros((height, width), np.uint8)
            mask[:10, :12] = 1
            annotate(index, 0, [0, 0, 12, 10], iscrowd=1, segmentation=uncompressed_rle(mask), area=120)
        if index == 3:
            annotate(index, 1, [5, 5, 0, 7])
        cv2.imwrite(str(folder / 'images' / f'{index}.png'), image)
        images.append({'id': index, 'file_name': f'{index}.png', 'height': height, 'width': width})
    categories = [{'id': 3 + 4 * label, 'name': name} for label, name in enumerate(CLASSES)]
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    (folder / 'annotations.json').write_text(json.dumps(content))


def uncompressed_rle(mask: np.ndarray) -> dict:
    """A mask as COCO writes crowds: lengths of runs, column by column, zeros first."""
    values = mask.flatten(order='F')
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    runs = [stop - start for start, stop in pairwise(edges)]
    return {'size': list(mask.shape), 'counts': runs if values[0] == 0 else [0, *runs]}


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    draw_coco(tmp_path / 'coco' / 'train', 8, seed=0)
    draw_coco(tmp_path / 'coco' / 'val', 5, seed=1)
    return tmp_path / 'coco'


@pytest.fixture
def make_detection_config(tmp_path: Path, coco_root: Path) -> Callable[..., Config]:
    """The small stitched detector of ``configs/``, smaller still: depths 2 and 4, four routes."""

    def make(**changes) -> Config:
        cfg = Config.fromfile(ROOT / 'configs/coco128/stitched-s6-l12_mask-rcnn_b8-1500_coco128-224x224.py')
        vit = dict(
            model='vit_tiny_patch16_224',
            img_size=SIZE,
            patch_size=8,
            num_heads=2,
            windowed=dict(window_size=3, img_size=SIZE, global_attn_indexes=(1,)),
        )
        cfg.model.backbone.anchors = [dict(vit, embed_dim=16, depth=2), dict(vit, embed_dim=32, depth=4)]
        cfg.model.backbone.lora_rank = 2
        roi_head = cfg.model.roi_head
        roi_head.bbox_head.num_classes = roi_head.mask_head.num_classes = len(CLASSES)
        strides = [2, 4, 8, 16]
        roi_head.bbox_roi_extractor.featmap_strides = roi_head.mask_roi_extractor.featmap_strides = strides
        cfg.model.rpn_head.anchor_generator.strides = [*strides, 32]
        cfg.merge_from_dict(
            {
                'model.data_preprocessor.pad_size_divisor': SIZE,
                'model.neck': dict(in_channels=32, out_channels=16, init_cfg=None),
                'model.rpn_head': dict(in_channels=16, feat_channels=16, init_cfg=None),
                'model.roi_head': dict(
                    init_cfg=None,
                    bbox_roi_extractor=dict(out_channels=16),
                    mask_roi_extractor=dict(out_channels=16),
                    bbox_head=dict(in_channels=16, conv_out_channels=16, fc_out_channels=16),
                    mask_head=dict(in_channels=16, conv_out_channels=16),
                ),
                # Weights that have learnt little are sure of nothing.
                'model.test_cfg': dict(rcnn=dict(score_thr=0.0, max_per_img=10), rpn=dict(max_per_img=20)),
                'randomness': dict(seed=7),
                'work_dir': str(tmp_path / 'detection'),
                'log_level': 'WARNING',
                'load_from': None,
                'train_cfg': dict(max_iters=3, val_interval=100),
                'default_hooks.logger.interval': 1,
                'default_hooks.checkpoint.interval': 3,
            }
        )
        for split, dataloader in (('train', cfg.train_dataloader), ('val', cfg.val_dataloader)):
            dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
            dataloader.dataset.update(
                data_root=str(coco_root),
                ann_file=f'{split}/annotations.json',
                data_prefix=dict(img=f'{split}/images'),
                metainfo=dict(classes=CLASSES),
            )
            for step in dataloader.dataset.pipeline:
                if step.type == 'Resize':
                    step.scale = (SIZE, SIZE)
        cfg.test_dataloader = cfg.val_dataloader
        cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(coco_root / 'val/annotations.json')
        cfg.custom_hooks = [dict(type='mmsnnet.StitchSamplingHook', init_images=3, sampler=dict(type='UniformSampler'))]
        cfg.merge_from_dict(changes)
        return cfg

    # The scope that the last runner set must not decide what the next one finds.
    yield make
    DefaultScope._instance_dict.clear()
