_base_ = [
    '../_base_/models/dpt-narrow.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/rooms_96x128.py',
    '../_base_/schedules/adamw_5k.py',
    '../_base_/depth_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.AnchorViT',
        out_indices=(1, 2, 4, 5),
        anchor=dict(
            model='vit_tiny_patch16_224', img_size=_base_.crop_size, weight_init='jax',
            embed_dim=32, depth=6, num_heads=2)),
    decode_head=dict(in_channels=32))
log_processor = dict(by_epoch=False)
