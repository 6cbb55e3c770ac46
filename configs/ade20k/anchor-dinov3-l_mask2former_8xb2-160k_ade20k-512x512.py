_base_ = './anchor-dinov3-s_mask2former_8xb2-160k_ade20k-512x512.py'
model = dict(
    backbone=dict(anchor=dict(model='vit_large_patch16_dinov3.lvd1689m', drop_path_rate=0.3)),
    neck=dict(in_channels=1024))
