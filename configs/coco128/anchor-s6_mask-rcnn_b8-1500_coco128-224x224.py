_base_ = [
    '../_base_/models/mask-rcnn_vitdet-narrow.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/coco128-instance_224x224.py',
    '../_base_/schedules/adamw_vitdet-1500.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='vit_tiny_patch16_224',
            img_size=224,
            weight_init='jax',
            windowed=dict(window_size=6, img_size=224, global_attn_indexes=(2, 5)),
            embed_dim=48,
            depth=6,
            num_heads=3)),
    neck=dict(in_channels=48))
