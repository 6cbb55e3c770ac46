_base_ = './anchor-s6_dpt_b16-4k_rooms-96x128.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=192, num_heads=6)),
    decode_head=dict(in_channels=192))
# A wide model wants a lower rate than a narrow one, and learns longer.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 6000
train_cfg = dict(max_iters=6000)
