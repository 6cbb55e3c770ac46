# SN-Net v1's for Swin on ImageNet: stitching layers learn at 1e-3, anchors and their classifiers at a tenth of it. Only
# the biases of stitching layers decay.
_base_ = './adamw_50e.py'
optim_wrapper = dict(
    clip_grad=dict(max_norm=5.),
    paramwise_cfg=dict(
        custom_keys={
            'backbone.up.': dict(lr_mult=10.),
            'relative_position_bias_table': dict(decay_mult=0.),
        }))
