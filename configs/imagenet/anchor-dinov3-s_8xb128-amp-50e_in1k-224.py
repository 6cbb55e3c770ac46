_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        out_type='cls_and_avg',
        anchor=dict(
            model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1)),
    head=dict(_base_.head, in_channels=2 * 384))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.))))
