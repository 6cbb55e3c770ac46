_base_ = [
    '../_base_/models/classifier_taught.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/imagenet_deit-224.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/classification_runtime.py',
]
custom_imports = dict(imports=['mmsnnet', 'mmsnnet.models.taught_classifier'])
name = 'deit_tiny_patch16_224.fb_in1k'
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(model=name, init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1)),
    head=dict(_base_.head, in_channels=192, init_cfg=dict(type='TimmClassifier', model=name)))
