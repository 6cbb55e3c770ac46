_base_ = './anchor-dinov3-s_8xb128-amp-50e_in1k-224.py'
model = dict(
    backbone=dict(anchor=dict(model='vit_base_patch16_dinov3.lvd1689m')), head=dict(in_channels=2 * 768))
