_base_ = [
    '../_base_/models/setr-naive-narrow.py',
    '../_base_/no_stitching.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/default_runtime.py',
    '../_base_/datasets/scenes_96x96.py',
]
custom_imports = dict(imports=['mmsnnet', 'tools.experiments.scenes'])
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='vit_tiny_patch16_224', img_size=_base_.crop_size, patch_size=8, weight_init='jax',
            embed_dim=32, depth=6, num_heads=2)),
    decode_head=dict(in_channels=32, num_classes=13))
