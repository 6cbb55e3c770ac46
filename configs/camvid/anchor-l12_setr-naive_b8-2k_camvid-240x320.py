_base_ = './anchor-s6_setr-naive_b8-1k_camvid-240x320.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=192, depth=12, num_heads=3)),
    decode_head=dict(in_channels=192))
# A larger model learns for longer.
train_cfg = dict(max_iters=2000, val_interval=2000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2000
