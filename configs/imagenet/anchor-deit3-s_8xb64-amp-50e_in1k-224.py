_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/lamb_50e.py',
    '../_base_/classification_runtime.py',
]
name = 'deit3_small_patch16_224.fb_in22k_ft_in1k'
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(model=name, init_cfg=dict(type='TimmPretrained'), constant_drop_path=0.05)),
    head=dict(_base_.head, in_channels=384, init_cfg=dict(type='TimmClassifier', model=name)))
