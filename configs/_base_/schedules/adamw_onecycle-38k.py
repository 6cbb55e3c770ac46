# DINOv3's for a linear head of depth over a frozen ViT: batches of 16, 38400 iterations.
_base_ = './adamw_onecycle-24e.py'
optim_wrapper = dict(optimizer=dict(lr=3e-4, betas=(0.9, 0.999)))
param_scheduler = [dict(type='OneCycleLR', eta_max=3e-4, total_steps=38400, by_epoch=False)]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=38400, val_interval=4800)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4800))
