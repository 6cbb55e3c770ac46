_base_ = './anchor-swin-ti_8xb128-amp-50e_in1k-224.py'
name = 'swin_small_patch4_window7_224.ms_in22k_ft_in1k'
model = dict(backbone=dict(anchor=dict(model=name)), head=dict(init_cfg=dict(model=name)))
