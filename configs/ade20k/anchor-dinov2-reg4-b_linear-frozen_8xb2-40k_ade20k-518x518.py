_base_ = './anchor-dinov2-reg4-s_linear-frozen_8xb2-40k_ade20k-518x518.py'
model = dict(
    backbone=dict(anchor=dict(model='vit_base_patch14_reg4_dinov2.lvd142m')), decode_head=dict(in_channels=768, channels=768))
