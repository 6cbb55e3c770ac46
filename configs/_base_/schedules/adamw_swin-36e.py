# MMDetection's for Swin, in iterations of 16 images: 36 epochs of COCO are 265500.
_base_ = './adamw_vitdet-100e.py'
optim_wrapper = dict(
    _delete_=True,
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0., custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=1000, by_epoch=False),
    dict(type='MultiStepLR', milestones=[199125, 243375], gamma=0.1, begin=0, end=265500, by_epoch=False),
]
train_cfg = dict(max_iters=265500)
auto_scale_lr = dict(base_batch_size=16)
