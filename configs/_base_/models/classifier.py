# DeiT3's loss and mixing of images.
head = dict(
    type='LinearClsHead', num_classes=1000, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
model = dict(
    type='ImageClassifier',
    backbone=dict(out_type='pooled'),
    train_cfg=dict(augments=[dict(type='CutMix', alpha=1.0)]))
