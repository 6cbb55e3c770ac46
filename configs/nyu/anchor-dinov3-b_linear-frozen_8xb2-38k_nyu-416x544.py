_base_ = './anchor-dinov3-s_linear-frozen_8xb2-38k_nyu-416x544.py'
model = dict(
    backbone=dict(anchor=dict(model='vit_base_patch16_dinov3.lvd1689m')), decode_head=dict(in_channels=768))
