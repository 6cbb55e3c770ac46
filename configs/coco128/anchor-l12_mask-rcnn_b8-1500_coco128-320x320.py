_base_ = './anchor-s6_mask-rcnn_b8-1500_coco128-320x320.py'
model = dict(
    backbone=dict(
        anchor=dict(windowed=dict(global_attn_indexes=(2, 5, 8, 11)), embed_dim=192, depth=12, num_heads=3)),
    neck=dict(in_channels=192))
