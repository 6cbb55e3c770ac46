_base_ = './anchor-deit3-s_8xb64-amp-50e_in1k-224.py'
name = 'deit3_large_patch16_224.fb_in22k_ft_in1k'
model = dict(
    backbone=dict(anchor=dict(model=name, constant_drop_path=0.4)),
    head=dict(in_channels=1024, init_cfg=dict(model=name)))
