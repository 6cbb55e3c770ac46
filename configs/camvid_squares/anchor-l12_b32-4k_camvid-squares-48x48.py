_base_ = './anchor-s6_b32-2k_camvid-squares-48x48.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=64, depth=12, num_heads=2)),
    head=dict(in_channels=64))
# A larger model learns for longer.
train_cfg = dict(max_iters=4000, val_interval=4000)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 4000
