_base_ = './anchor-deit-ti_8xb128-amp-50e_in1k-224.py'
name = 'deit_small_patch16_224.fb_in1k'
model = dict(
    backbone=dict(anchor=dict(model=name)), head=dict(in_channels=384, init_cfg=dict(model=name)))
