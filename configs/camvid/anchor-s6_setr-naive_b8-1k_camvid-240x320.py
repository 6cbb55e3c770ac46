_base_ = [
    '../_base_/models/setr-naive-narrow.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/camvid_240x320.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='vit_tiny_patch16_224', img_size=_base_.crop_size, weight_init='jax',
            embed_dim=32, depth=6, num_heads=2)),
    decode_head=dict(in_channels=32, num_classes=11))
