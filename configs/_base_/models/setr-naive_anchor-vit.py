# One plain ViT alone with the heads of setr-naive_stitched-vit.py: the baseline of a stitched model.
_base_ = './setr-naive_stitched-vit.py'
model = dict(backbone=dict(_delete_=True, type='mmsnnet.AnchorViT', out_indices=(9, 14, 19, 23)))
custom_hooks = []
val_cfg = dict(_delete_=True, type='ValLoop')
test_cfg = dict(_delete_=True, type='TestLoop')
