_base_ = './anchor-deit3-s_setr-naive_8xb2-160k_ade20k-512x512.py'
model = dict(
    backbone=dict(anchor=dict(model='deit3_large_patch16_224.fb_in22k_ft_in1k'), out_indices=(9, 14, 19, 23)),
    decode_head=dict(in_channels=1024),
    auxiliary_head=[dict(_base_.auxiliary_head, in_channels=1024, in_index=index) for index in range(3)])
