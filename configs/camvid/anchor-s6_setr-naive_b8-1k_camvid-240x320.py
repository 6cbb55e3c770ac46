_base_ = [
    '../_base_/models/setr-naive_anchor-vit.py',
    '../_base_/datasets/camvid_240x320.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
crop_size = (240, 320)
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(anchor=dict(model='deit3_small_patch16_224', img_size=crop_size, embed_dim=48, depth=6, num_heads=3)),
    decode_head=dict(in_channels=48, channels=64, num_classes=11, norm_cfg=norm_cfg))
