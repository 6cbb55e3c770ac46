"""A toy classification job on MMPretrain: the segmentation job's runner, on pictures in one folder for each class."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config, ConfigDict
from toys import randomise

SIZE = 32
CLASSES = ('dark', 'light', 'red')
COLOURS = ((60, 60, 60), (200, 200, 200), (60, 60, 200))


@pytest.fixture
def classes_root(tmp_path: Path) -> Path:
    """Five training and two validation pictures of each class."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 5), ('val', 2)):
        for name, colour in zip(CLASSES, COLOURS, strict=True):
            folder = tmp_path / 'classes' / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                picture = (np.array(colour) + rng.normal(0, 20, (SIZE + 8, SIZE + 8, 3))).clip(0, 255)
                cv2.imwrite(str(folder / f'{index}.png'), picture.astype(np.uint8))
    return tmp_path / 'classes'


def classification_config(cfg: Config, root: Path) -> Config:
    """A tiny stitched classifier (depths 2 and 4), exits own, in place of a segmentor in the config of a toy job."""

    def loader(split: str, batch_size: int, sampler: str, pipeline: list[dict]) -> dict:
        return dict(
            batch_size=batch_size,
            num_workers=0,
            # MMPretrain's script sets it where a config does not say.
            persistent_workers=False,
            sampler=dict(type=sampler, shuffle=split == 'train'),
            dataset=dict(
                type='CustomDataset',
                data_root=str(root / split),
                pipeline=[dict(type='LoadImageFromFile'), *pipeline, dict(type='PackInputs')],
            ),
        )

    cfg.default_scope = 'mmpretrain'
    cfg.visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
    cfg.default_hooks.visualization = dict(type='VisualizationHook', enable=False)
    vit = dict(model='vit_tiny_patch16_224', img_size=SIZE, patch_size=8, num_heads=2)
    head = dict(type='LinearClsHead', num_classes=len(CLASSES), loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1))
    cfg.model = ConfigDict(
        type='ImageClassifier',
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True, num_classes=len(CLASSES)),
        backbone=dict(
            type='mmsnnet.StitchedViT',
            anchors=[dict(vit, embed_dim=8, depth=2), dict(vit, embed_dim=16, depth=4)],
            lora_rank=2,
            exits='own',
            out_type='pooled',
        ),
        head=dict(type='mmsnnet.PerExit', heads=[dict(head, in_channels=8), dict(head, in_channels=16)]),
        train_cfg=dict(augments=[dict(type='CutMix', alpha=1.0)]),
    )
    crop = [dict(type='RandomResizedCrop', scale=SIZE), dict(type='RandomFlip', prob=0.5)]
    centre = [dict(type='ResizeEdge', scale=SIZE, edge='short'), dict(type='CenterCrop', crop_size=SIZE)]
    cfg.train_dataloader = loader('train', 4, 'InfiniteSampler', crop)
    cfg.val_dataloader = cfg.test_dataloader = loader('val', 2, 'DefaultSampler', centre)
    cfg.val_evaluator = cfg.test_evaluator = dict(type='Accuracy', topk=(1, 2))
    return cfg


@pytest.fixture
def make_classification_config(make_config: Callable[..., Config], classes_root: Path) -> Callable[..., Config]:
    """Makes a config of the job; keywords are merged into it."""

    def make(**changes) -> Config:
        cfg = classification_config(make_config(), classes_root)
        cfg.merge_from_dict(changes)
        return cfg

    return make


def swin_backbone() -> ConfigDict:
    """A backbone for such a config of two Swins, and SN-Net v1's space between them."""
    swin = dict(
        model='swin_tiny_patch4_window7_224',
        img_size=SIZE,
        patch_size=4,
        window_size=2,
        num_heads=(2, 2),
        drop_path_rate=0.0,
    )
    return ConfigDict(
        _delete_=True,
        type='mmsnnet.StitchedViT',
        # A stage doubles the width: vectors have 8 and 16 channels.
        anchors=[dict(swin, embed_dim=4, depths=(2, 2)), dict(swin, embed_dim=8, depths=(3, 3))],
        two_way=False,
        window=2,
        lora_rank=2,
        exits='own',
        out_type='pooled',
    )


def teach(cfg: Config, folder: Path) -> Config:
    """Give the model of such a config a teacher with random weights, in a file."""
    teacher = dict(model='vit_tiny_patch16_224', img_size=SIZE, patch_size=8, num_heads=2, embed_dim=8, depth=1)
    arguments = {**teacher, 'num_classes': len(CLASSES)}
    torch.save(randomise(timm.create_model(arguments.pop('model'), **arguments)).state_dict(), folder / 'teacher.pth')
    cfg.custom_imports.imports.append('mmsnnet.models.taught_classifier')
    cfg.model.type = 'mmsnnet.TaughtClassifier'
    cfg.model.teacher = dict(teacher, num_classes=len(CLASSES), file=str(folder / 'teacher.pth'))
    # What timm's model wants.
    cfg.model.data_preprocessor.update(mean=[127.5] * 3, std=[127.5] * 3)
    return cfg
