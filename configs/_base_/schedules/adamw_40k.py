# DINO's recipe for a linear head over a frozen ViT: batches of 16, 40000 iterations.
_base_ = './adamw_160k.py'
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-3), paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=1.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', eta_min=0., power=1.0, begin=1500, end=40000, by_epoch=False),
]
train_cfg = dict(max_iters=40000, val_interval=4000)
