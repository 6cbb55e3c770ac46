# SN-Netv2's for ImageNet. The released cosine ends at a third of the rate.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    # A norm that no gradient reaches: nothing is clipped.
    optimizer=dict(type='Lamb', lr=3e-5, weight_decay=0.02, max_grad_norm=1e9))
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 300, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=50),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=5)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False))
auto_scale_lr = dict(base_batch_size=512)
