_base_ = [
    '../_base_/models/classifier-plain.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/image-folder_224.py',
    '../_base_/schedules/adamw_cls-2k.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='deit3_small_patch16_224.fb_in22k_ft_in1k', init_cfg=dict(type='TimmPretrained'),
            drop_path_rate=0.05)),
    head=dict(_base_.head, in_channels=384, num_classes=len(_base_.classes)))
# Pretrained weights change little.
optim_wrapper = dict(optimizer=dict(lr=1e-4))
log_processor = dict(by_epoch=False)
