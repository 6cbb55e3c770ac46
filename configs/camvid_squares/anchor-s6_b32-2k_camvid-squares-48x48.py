_base_ = [
    '../_base_/models/classifier-plain.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/camvid-squares_48x48.py',
    '../_base_/schedules/adamw_cls-2k.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='vit_tiny_patch16_224', img_size=_base_.crop_size, patch_size=8, weight_init='jax',
            embed_dim=32, depth=6, num_heads=2)),
    head=dict(_base_.head, in_channels=32, num_classes=len(_base_.classes)))
log_processor = dict(by_epoch=False)
