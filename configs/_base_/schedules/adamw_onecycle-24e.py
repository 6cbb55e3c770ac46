# SN-Netv2's for NYUv2. The released backbone rate of a tenth had no effect there: OneCycle sets the rate of every group.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-5, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        custom_keys=dict(pos_embed=dict(decay_mult=0.), cls_token=dict(decay_mult=0.))))
param_scheduler = [
    dict(
        type='OneCycleLR', eta_max=2e-5, div_factor=25, final_div_factor=100, total_steps=24, by_epoch=True,
        convert_to_iter_based=True),
    dict(type='CosineAnnealingMomentum', eta_min=0.85, by_epoch=True, begin=0, end=7.2, convert_to_iter_based=True),
    dict(type='CosineAnnealingMomentum', eta_min=0.95, by_epoch=True, begin=7.2, end=24, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=24, val_interval=4)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='rmse', rule='less'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook', draw=False))
