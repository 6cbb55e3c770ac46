_base_ = './anchor-s6_mask-rcnn_b8-1500_coco128-224x224.py'
model = dict(
    backbone=dict(
        anchor=dict(windowed=dict(global_attn_indexes=(2, 5, 8, 11)), embed_dim=128, depth=12, num_heads=4)),
    neck=dict(in_channels=128))
