_base_ = [
    '../_base_/models/setr-naive-narrow.py',
    '../_base_/stitching.py',
    '../_base_/schedules/adamw_800.py',
    '../_base_/default_runtime.py',
    '../_base_/datasets/scenes_96x96.py',
]
custom_imports = dict(imports=['mmsnnet', 'tools.experiments.scenes'])
# Train the anchors alone first: their weights, and the head of the large one, are where this model starts.
small = 'work_dirs/anchor-s6_setr-naive_b8-800_scenes-96x96/iter_800.pth'
large = 'work_dirs/anchor-l6_setr-naive_b8-800_scenes-96x96/iter_800.pth'
vit = dict(model='vit_tiny_patch16_224', img_size=_base_.crop_size, patch_size=8, weight_init='jax')
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        lora_rank=16,
        anchors=[
            dict(vit, embed_dim=32, depth=6, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(vit, embed_dim=144, depth=6, num_heads=3,
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ]),
    decode_head=dict(
        in_channels=144, num_classes=13,
        init_cfg=dict(type='Pretrained', checkpoint=large, prefix='decode_head.')))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler.step_gflops = 0.05
# The anchors are trained already.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
