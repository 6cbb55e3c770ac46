_base_ = './stitched-dinov3-s-l_linear-exact_8xb2-40k_ade20k-512x512.py'
# A multiple of the patch size, 14.
crop_size = (518, 518)
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size
small = 'work_dirs/anchor-dinov2-reg4-s_linear-frozen_8xb2-40k_ade20k-518x518/iter_40000.pth'
large = 'work_dirs/anchor-dinov2-reg4-l_linear-frozen_8xb2-40k_ade20k-518x518/iter_40000.pth'
small_head, large_head = _base_.model.decode_head.heads
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(anchors=[
        dict(model='vit_small_patch14_reg4_dinov2.lvd142m', init_cfg=dict(type='TimmPretrained')),
        dict(model='vit_large_patch14_reg4_dinov2.lvd142m', init_cfg=dict(type='TimmPretrained')),
    ]),
    decode_head=dict(heads=[
        dict(small_head, init_cfg=dict(_base_.head, checkpoint=small)),
        dict(large_head, init_cfg=dict(_base_.head, checkpoint=large)),
    ]),
    test_cfg=dict(crop_size=crop_size))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
