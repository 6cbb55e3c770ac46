# One windowed ViT alone with the neck and heads of mask-rcnn_stitched-vitdet.py: the baseline of a stitched model.
_base_ = './mask-rcnn_stitched-vitdet.py'
model = dict(backbone=dict(_delete_=True, type='mmsnnet.AnchorViT'))
custom_hooks = []
val_cfg = dict(_delete_=True, type='ValLoop')
test_cfg = dict(_delete_=True, type='TestLoop')
