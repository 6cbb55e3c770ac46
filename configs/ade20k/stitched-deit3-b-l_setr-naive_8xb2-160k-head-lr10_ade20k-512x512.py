# The recipe that the released ADE20K file intends, see _base_/schedules/sgd_160k.py.
_base_ = './stitched-deit3-b-l_setr-naive_8xb2-160k_ade20k-512x512.py'
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.0), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.))))
