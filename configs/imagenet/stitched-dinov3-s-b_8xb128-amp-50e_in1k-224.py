# Heads start from random weights, for timm's DINOv3 have no classifiers, and learn at ten times the rate. They read what
# DINO's own linear classifiers do.
_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/stitching.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/classification_runtime.py',
]
anchors = [('vit_small_patch16_dinov3.lvd1689m', 384), ('vit_base_patch16_dinov3.lvd1689m', 768)]
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        out_type='cls_and_avg',
        lora_rank=64,
        exits='own',
        anchors=[dict(model=name, init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1) for name, _ in anchors]),
    head=dict(type='mmsnnet.PerExit', heads=[dict(_base_.head, in_channels=2 * width) for _, width in anchors]))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.))))
custom_hooks = _base_.custom_hooks
custom_hooks[0].update(
    sampler=dict(type='ResourceConstrainedSampler', step_gflops=1), init_images=100, per_rank_routes=True)
