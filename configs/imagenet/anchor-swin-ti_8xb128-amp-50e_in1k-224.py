_base_ = [
    '../_base_/anchors/swin.py',
    '../_base_/models/classifier.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/imagenet_deit-224.py',
    '../_base_/schedules/adamw_swin-50e.py',
    '../_base_/classification_runtime.py',
]
anchor = _base_.swins[0]
model = dict(
    backbone=dict(type='mmsnnet.AnchorViT', anchor=anchor),
    head=dict(_base_.head, in_channels=768, init_cfg=dict(type='TimmClassifier', model=anchor.model)),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
