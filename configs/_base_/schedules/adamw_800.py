_base_ = './adamw_1k.py'
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=50, end=800, by_epoch=False),
]
train_cfg = dict(max_iters=800, val_interval=800)
