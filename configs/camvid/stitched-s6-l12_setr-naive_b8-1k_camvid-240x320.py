_base_ = [
    '../_base_/models/setr-naive-narrow.py',
    '../_base_/stitching.py',
    '../_base_/datasets/camvid_240x320.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
# Train the anchors alone first: their weights, and the head of the large one, are where this model starts.
small = 'work_dirs/anchor-s6_setr-naive_b8-1k_camvid-240x320/iter_1000.pth'
large = 'work_dirs/anchor-l12_setr-naive_b8-2k_camvid-240x320/iter_2000.pth'
vit = dict(model='vit_tiny_patch16_224', img_size=_base_.crop_size, weight_init='jax')
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        lora_rank=16,
        anchors=[
            dict(vit, embed_dim=32, depth=6, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(vit, embed_dim=192, depth=12, num_heads=3,
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ]),
    decode_head=dict(
        in_channels=192, num_classes=11,
        init_cfg=dict(type='Pretrained', checkpoint=large, prefix='decode_head.')))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler.step_gflops = 0.15
# The anchors are trained already.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
