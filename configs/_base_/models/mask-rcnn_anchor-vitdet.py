# One windowed ViT alone with the neck and heads of mask-rcnn_stitched-vitdet.py: the baseline of a stitched model.
_base_ = './mask-rcnn_vitdet.py'
model = dict(backbone=dict(type='mmsnnet.AnchorViT'))
