_base_ = './anchor-dinov3-s_linear-frozen_8xb2-40k_ade20k-512x512.py'
# A multiple of the patch size, 14.
crop_size = (518, 518)
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(anchor=dict(model='vit_small_patch14_reg4_dinov2.lvd142m')),
    test_cfg=dict(crop_size=crop_size))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
