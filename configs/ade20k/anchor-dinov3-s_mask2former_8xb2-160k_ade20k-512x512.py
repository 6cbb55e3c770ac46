_base_ = [
    '../_base_/models/mask2former.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1)),
    neck=dict(in_channels=384),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
optim_wrapper = dict(clip_grad=dict(max_norm=0.01, norm_type=2))
