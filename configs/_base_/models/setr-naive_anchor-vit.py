# One plain ViT alone with the heads of setr-naive_stitched-vit.py: the baseline of a stitched model.
_base_ = './setr-naive.py'
model = dict(backbone=dict(type='mmsnnet.AnchorViT', out_indices=(9, 14, 19, 23)))
