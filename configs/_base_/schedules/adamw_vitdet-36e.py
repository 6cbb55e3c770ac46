_base_ = './adamw_vitdet-100e.py'
# The learning rate falls after the same parts of 36 epochs as of 100.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=250, by_epoch=False),
    dict(type='MultiStepLR', milestones=[59000, 63917], gamma=0.1, begin=0, end=66375, by_epoch=False),
]
train_cfg = dict(max_iters=66375)
