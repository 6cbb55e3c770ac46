# ViTDet's recipe for batches of 64: 100 epochs of COCO are 184375 iterations.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    constructor='mmsnnet.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=[0.7, 0.8]),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=250, by_epoch=False),
    dict(type='MultiStepLR', milestones=[163889, 177546], gamma=0.1, begin=0, end=184375, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=20000)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Two, because the runner removes the oldest before the newest is written.
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=5000, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'))
auto_scale_lr = dict(base_batch_size=64)
