_base_ = [
    '../_base_/models/setr-naive_anchor-vit.py',
    '../_base_/datasets/shapes_96x96.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
crop_size = (96, 96)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        anchor=dict(
            model='deit3_small_patch16_224', img_size=crop_size, patch_size=8, embed_dim=32, depth=6, num_heads=2)),
    decode_head=dict(in_channels=32, channels=32, num_classes=8, norm_cfg=dict(type='GN', num_groups=8)))
