_base_ = [
    '../_base_/models/setr-naive_anchor-vit.py',
    '../_base_/datasets/camvid_240x320.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
crop_size = (240, 320)
norm_cfg = dict(type='GN', num_groups=8)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        anchor=dict(
            model='vit_tiny_patch16_224', img_size=crop_size, weight_init='jax', embed_dim=8, depth=6, num_heads=2),
        out_indices=(-1, )),
    decode_head=dict(in_index=0, in_channels=8, channels=64, num_classes=11, norm_cfg=norm_cfg),
    auxiliary_head=None)
