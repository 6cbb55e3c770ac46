_base_ = './adamw_1k.py'
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2000
train_cfg = dict(max_iters=2000, val_interval=2000)
default_hooks = dict(visualization=dict(type='VisualizationHook', enable=False))
