"""Pairs of finished toy models to stitch, of our backbones and of MMSegmentation's own."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from toy_classification_job import classification_config
from toy_exact import anchor_config
from toy_job import CROP
from toys import randomise

from mmsnnet.building import build_model, load_weights

WIDTHS, DEPTHS = (16, 32), (2, 4)
UPER = dict(
    type='UPerHead',
    channels=8,
    pool_scales=(1, 2),
    num_classes=3,
    dropout_ratio=0,
    norm_cfg=dict(type='GN', num_groups=4),
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss'),
)
AUXILIARY = dict(type='FCNHead', channels=8, num_convs=1, num_classes=3, norm_cfg=dict(type='GN', num_groups=4))


def mmseg_config(cfg: Config, index: int, kind: str, head: Callable[[int], dict], **backbone) -> Config:
    """A toy segmentor of MMSegmentation's own parts."""
    cfg = anchor_config(cfg, index)
    width = WIDTHS[index]
    vit = dict(type=kind, img_size=CROP, patch_size=8, embed_dims=width, num_layers=DEPTHS[index], num_heads=2)
    cfg.model.backbone = ConfigDict({**vit, **backbone})
    cfg.model.decode_head = ConfigDict(head(width))
    return cfg


def uper_config(cfg: Config, index: int, kind: str, neck: dict | None, levels: int, **backbone) -> Config:
    """Levels leave after each block of the small ViT, and after every second one of the large ViT."""
    depth = levels * (index + 1)
    head = lambda width: dict(UPER, in_channels=[width] * levels, in_index=list(range(levels)))  # noqa: E731
    vit = dict(num_layers=depth, out_indices=list(range(index, depth, index + 1)))
    cfg = mmseg_config(cfg, index, kind, head, **vit, **backbone)
    auxiliary = dict(AUXILIARY, in_channels=WIDTHS[index])
    cfg.model.auxiliary_head = [ConfigDict(auxiliary, in_index=level) for level in range(2)]
    if neck:
        cfg.model.neck = ConfigDict(neck)
    return cfg


def anchors(make_config, make_detection_config, index):
    cfg = make_config()
    cfg.model.auxiliary_head = ConfigDict(cfg.model.decode_head, in_index=0)
    return anchor_config(cfg, index)


def detectors(make_config, make_detection_config, index):
    return anchor_config(make_detection_config(), index)


def classifiers(make_config, make_detection_config, index):
    return anchor_config(classification_config(make_config(), Path('classes')), index)


def swins(make_config, make_detection_config, index):
    """Levels leave at the ends of two stages."""
    cfg, width = anchor_config(make_config(), index), WIDTHS[index] // 2
    swin = dict(model='swin_tiny_patch4_window7_224', img_size=CROP, patch_size=8, window_size=2, num_heads=(2, 2))
    stage = DEPTHS[index] // 2
    cfg.model.backbone.anchor = ConfigDict(swin, embed_dim=width, depths=(stage, stage), drop_path_rate=0.0)
    cfg.model.backbone.out_indices = [stage - 1, 2 * stage - 1]
    cfg.model.decode_head = ConfigDict(UPER, in_channels=[width, 2 * width], in_index=[0, 1])
    return cfg


def single_stages(make_config, make_detection_config, index):
    cfg = anchor_config(make_detection_config(), index)
    for part in ('rpn_head', 'roi_head'):
        cfg.model.pop(part)
    head = dict(in_channels=16, feat_channels=16, num_classes=2, stacked_convs=1, strides=(2, 4, 8, 16, 32))
    head['norm_cfg'] = dict(type='GN', num_groups=4)
    cfg.model.update(
        type='FCOS',
        bbox_head=ConfigDict(type='FCOSHead', **head),
        train_cfg=None,
        test_cfg=ConfigDict(nms_pre=100, score_thr=0.0, max_per_img=10, nms=dict(type='nms', iou_threshold=0.5)),
    )
    return cfg


def cascades(make_config, make_detection_config, index):
    """Two decode heads, of which the second reads what the first gives."""
    cfg = anchor_config(make_config(), index)
    first = cfg.model.decode_head
    second = dict(first, type='OCRHead', ocr_channels=8)
    second.pop('num_convs')
    cfg.model.update(type='CascadeEncoderDecoder', num_stages=2, decode_head=[first, ConfigDict(second)])
    return cfg


def segmenters(make_config, make_detection_config, index):
    def head(width: int) -> dict:
        sizes = dict(in_channels=width, channels=width, embed_dims=width, num_layers=1, num_heads=2)
        return dict(type='SegmenterMaskTransformerHead', num_classes=3, **sizes)

    return mmseg_config(make_config(), index, 'VisionTransformer', head, final_norm=True, patch_bias=True)


def upernets(make_config, make_detection_config, index):
    width = WIDTHS[index]
    neck = dict(type='MultiLevelNeck', in_channels=[width] * 2, out_channels=width, scales=[2, 1])
    return uper_config(make_config(), index, 'VisionTransformer', neck, 2, interpolate_mode='bilinear', final_norm=True)


def pyramid(index: int) -> dict:
    return dict(type='Feature2Pyramid', embed_dim=WIDTHS[index], norm_cfg=dict(type='BN'))


def beits(make_config, make_detection_config, index):
    return uper_config(make_config(), index, 'BEiT', pyramid(index), 4)


def maes(make_config, make_detection_config, index):
    return uper_config(make_config(), index, 'MAE', None, 2)


def dpts(make_config, make_detection_config, index):
    """Four levels, each a map and the class token."""
    depth = 4 * (index + 1)
    head = lambda width: dict(  # noqa: E731
        type='DPTHead',
        in_channels=[width] * 4,
        channels=8,
        embed_dims=width,
        post_process_channels=[4, 4, 8, 8],
        num_classes=3,
        readout_type='project',
        input_transform='multiple_select',
        in_index=list(range(4)),
        norm_cfg=dict(type='GN', num_groups=4),
    )
    levels = dict(num_layers=depth, out_indices=list(range(index, depth, index + 1)), output_cls_token=True)
    return mmseg_config(make_config(), index, 'VisionTransformer', head, interpolate_mode='bilinear', **levels)


EXACT = (anchors, cascades, classifiers, detectors, single_stages, swins)
PAIRS = (*EXACT, segmenters, upernets, beits, maes, dpts)


class Pair:
    """Two finished toy models as files, and the arguments that name them."""

    def __init__(self, folder: Path, configs: list[Config]) -> None:
        self.folder = folder
        self.configs = [self.write(index, cfg) for index, cfg in enumerate(configs)]

    def write(self, index: int, cfg: Config) -> Config:
        """Write a model with random weights; returns its config as read from the file."""
        if index:
            cfg.model.backbone.pop('init_cfg', None)
        model = randomise(build_model(copy.deepcopy(cfg)), seed=index)
        classes = dict(classes=('ground', 'left', 'right'))
        torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': classes}}, self.checkpoint(index))
        cfg.dump(self.folder / f'{index}.py')
        return Config.fromfile(self.folder / f'{index}.py')

    def checkpoint(self, index: int) -> Path:
        return self.folder / f'{index}.pth'

    @property
    def words(self) -> list[Path]:
        return [self.folder / name for name in ('0.py', '0.pth', '1.py', '1.pth')]

    def finished(self, index: int) -> torch.nn.Module:
        model = build_model(copy.deepcopy(self.configs[index])).eval()
        load_weights(model, str(self.checkpoint(index)))
        return model


def load(cfg: Config) -> torch.nn.Module:
    model = build_model(copy.deepcopy(cfg)).eval()
    load_weights(model, str(Path(cfg.filename).with_suffix('.pth')))
    return model
