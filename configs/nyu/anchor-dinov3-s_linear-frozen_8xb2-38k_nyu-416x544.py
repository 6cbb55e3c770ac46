_base_ = [
    '../_base_/models/linear-depth.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/nyu_416x544.py',
    '../_base_/schedules/adamw_onecycle-38k.py',
    '../_base_/depth_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained')),
        frozen=True),
    decode_head=dict(in_channels=384))
# Iterations, not epochs.
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
log_processor = dict(by_epoch=False)
