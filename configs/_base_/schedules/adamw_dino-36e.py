# DINO's recipe: batches of 16, a tenth of the learning rate in the backbone; 36 epochs of COCO are 265500 iterations.
_base_ = './adamw_vitdet-100e.py'
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
param_scheduler = [dict(type='MultiStepLR', milestones=[221250], gamma=0.1, begin=0, end=265500, by_epoch=False)]
train_cfg = dict(max_iters=265500)
auto_scale_lr = dict(base_batch_size=16)
