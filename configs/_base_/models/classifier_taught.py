# SN-Net v1's loss and DeiT's mixing of images. Import mmsnnet.models.taught_classifier beside it.
_base_ = './classifier.py'
model = dict(
    type='mmsnnet.TaughtClassifier',
    teacher=dict(model='regnety_160.deit_in1k'),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
