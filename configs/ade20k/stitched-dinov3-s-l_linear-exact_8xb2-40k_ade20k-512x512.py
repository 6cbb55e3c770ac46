_base_ = [
    '../_base_/models/linear_exact.py',
    '../_base_/exact.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
# Train the heads of both alone first.
small = 'work_dirs/anchor-dinov3-s_linear-frozen_8xb2-40k_ade20k-512x512/iter_40000.pth'
large = 'work_dirs/anchor-dinov3-l_linear-frozen_8xb2-40k_ade20k-512x512/iter_40000.pth'
head = dict(type='Pretrained', prefix='decode_head.')
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(anchors=[
        dict(model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained')),
        dict(model='vit_large_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained')),
    ]),
    decode_head=dict(
        _delete_=True,
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.decode_head, in_channels=384, channels=384, init_cfg=dict(head, checkpoint=small)),
            dict(_base_.decode_head, init_cfg=dict(head, checkpoint=large)),
        ],
        exact=True),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
# Low-rank updates want a higher rate than all weights of a ViT do.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
