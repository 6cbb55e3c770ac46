# DINOv3's linear head for depth: the last map, normed by the ViT's own final norm, and bins of depth.
_base_ = './depth.py'
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(final_norm=True),
    decode_head=dict(type='LinearDepthHead', norm_cfg=dict(type='SyncBN', requires_grad=True)))
