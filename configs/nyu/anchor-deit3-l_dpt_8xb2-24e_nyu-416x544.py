_base_ = './anchor-deit3-s_dpt_8xb2-24e_nyu-416x544.py'
model = dict(
    backbone=dict(
        out_indices=(4, 11, 17, 23), anchor=dict(model='deit3_large_patch16_224.fb_in22k_ft_in1k')),
    decode_head=dict(in_channels=1024))
