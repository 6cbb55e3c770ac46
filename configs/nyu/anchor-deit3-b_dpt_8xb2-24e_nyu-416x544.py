_base_ = './anchor-deit3-s_dpt_8xb2-24e_nyu-416x544.py'
model = dict(
    backbone=dict(anchor=dict(model='deit3_base_patch16_224.fb_in22k_ft_in1k')),
    decode_head=dict(in_channels=768))
