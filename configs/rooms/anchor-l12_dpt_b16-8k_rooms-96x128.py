_base_ = './anchor-s6_dpt_b16-5k_rooms-96x128.py'
model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11), anchor=dict(embed_dim=64, depth=12)),
    decode_head=dict(in_channels=64))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 8000
train_cfg = dict(max_iters=8000)
