"""A toy segmentation job on MMEngine's runner: real data sets, pipelines, heads and metrics, tiny anchors."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

CROP = (32, 48)
NUM_CLASSES = 3
CLASSES = ('ground', 'left', 'right')

_runs = itertools.count()


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Ten training and four validation images of two coloured halves, with noise."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 10), ('val', 4)):
        for kind in ('images', 'annotations'):
            (tmp_path / 'data' / kind / split).mkdir(parents=True)
        for index in range(count):
            edge = rng.integers(10, CROP[1] - 10)
            labels = np.zeros(CROP, np.uint8)
            labels[8:, :edge], labels[8:, edge:] = 1, 2
            image = (
                np.array([[60, 60, 60], [200, 60, 60], [60, 200, 60]])[labels] + rng.normal(0, 20, (*CROP, 3))
            ).clip(0, 255)
            cv2.imwrite(str(tmp_path / 'data' / 'images' / split / f'{index}.png'), image.astype(np.uint8))
            cv2.imwrite(str(tmp_path / 'data' / 'annotations' / split / f'{index}.png'), labels)
    return tmp_path / 'data'


@pytest.fixture
def make_config(tmp_path: Path, data_root: Path) -> Callable[..., Config]:
    """A config of a tiny stitched segmentor (depths 2 and 3, eight routes); keywords are merged into it."""

    def make(**changes) -> Config:
        vit = dict(model='vit_tiny_patch16_224', img_size=CROP, patch_size=8)
        norm_cfg = dict(type='GN', num_groups=4)

        def loader(split: str, batch_size: int, sampler: str, pipeline: list[dict]) -> dict:
            return dict(
                batch_size=batch_size,
                num_workers=0,
                sampler=dict(type=sampler, shuffle=split == 'train'),
                dataset=dict(
                    type='BaseSegDataset',
                    metainfo=dict(classes=CLASSES, palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]]),
                    data_root=str(data_root),
                    img_suffix='.png',
                    data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'),
                    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *pipeline],
                ),
            )

        flip = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
        pack = [dict(type='PackSegInputs')]
        cfg = Config(
            dict(
                default_scope='mmseg',
                custom_imports=dict(imports=['mmsnnet'], allow_failed_imports=False),
                randomness=dict(seed=7),
                work_dir=str(tmp_path / 'work_dir'),
                # MMEngine names loggers by it and the second, and gives runners of one name one logger.
                experiment_name=f'toy{next(_runs)}',
                log_level='WARNING',
                log_processor=dict(by_epoch=False),
                visualizer=dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
                default_hooks=dict(
                    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
                    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
                    visualization=dict(type='SegVisualizationHook'),
                ),
                model=dict(
                    type='EncoderDecoder',
                    data_preprocessor=dict(
                        type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size=CROP, bgr_to_rgb=True
                    ),
                    backbone=dict(
                        type='StitchedViT',
                        anchors=[
                            dict(vit, embed_dim=8, depth=2, num_heads=2),
                            dict(vit, embed_dim=16, depth=4, num_heads=2),
                        ],
                        out_indices=(1, 3),
                        lora_rank=2,
                    ),
                    decode_head=dict(
                        type='FCNHead',
                        in_channels=16,
                        in_index=1,
                        channels=8,
                        num_convs=1,
                        dropout_ratio=0,
                        num_classes=NUM_CLASSES,
                        norm_cfg=norm_cfg,
                        loss_decode=dict(type='CrossEntropyLoss'),
                    ),
                    train_cfg={},
                    test_cfg=dict(mode='whole'),
                ),
                train_dataloader=loader('train', 2, 'InfiniteSampler', flip + pack),
                val_dataloader=loader('val', 2, 'DefaultSampler', pack),
                test_dataloader=loader('val', 2, 'DefaultSampler', pack),
                test_pipeline=[dict(type='LoadImageFromFile'), *pack],
                val_evaluator=dict(type='IoUMetric'),
                test_evaluator=dict(type='IoUMetric'),
                optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
                train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100),
                val_cfg=dict(type='StitchValLoop', routes='anchors'),
                test_cfg=dict(type='StitchTestLoop'),
                custom_hooks=[
                    dict(
                        type='StitchSamplingHook',
                        sampler=dict(type='ResourceConstrainedSampler', step_gflops=1e-4),
                        init_images=3,
                    )
                ],
            )
        )
        cfg.merge_from_dict(changes)
        return cfg

    # The scope that the last runner set must not decide what the next one finds.
    yield make
    DefaultScope._instance_dict.clear()


def assert_one_line(stopped: SystemExit, message: str) -> None:
    assert stopped.code.startswith('error: ')
    assert '\n' not in stopped.code
    assert re.search(message, stopped.code), stopped.code
