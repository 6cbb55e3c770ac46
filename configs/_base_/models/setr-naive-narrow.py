# One narrow head that reads the last map: small enough to train on a CPU.
_base_ = './setr-naive.py'
norm_cfg = dict(_delete_=True, type='GN', num_groups=8)
model = dict(
    backbone=dict(out_indices=(-1, )),
    decode_head=dict(in_index=0, channels=64, norm_cfg=dict(type='GN', num_groups=8)),
    auxiliary_head=None)
