# SN-Net v1's for ImageNet: 5e-5 for 512 images a step, scaled linearly to the 1024 of 8 x 128.
_base_ = './lamb_50e.py'
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05),
    # No decay of norms and biases, but for what custom_keys name.
    paramwise_cfg=dict(flat_decay_mult=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, end=50),
]
auto_scale_lr = dict(base_batch_size=1024)
