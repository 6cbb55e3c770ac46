_base_ = [
    '../_base_/models/setr-naive_stitched-vit.py',
    '../_base_/datasets/camvid_240x320.py',
    '../_base_/schedules/adamw_1k.py',
    '../_base_/default_runtime.py',
]
crop_size = (240, 320)
# Train the anchors alone first: their weights, and the head of the large one, are where this model starts.
small = 'work_dirs/anchor-s6_setr-naive_b8-1k_camvid-240x320/iter_1000.pth'
large = 'work_dirs/anchor-l12_setr-naive_b8-1k_camvid-240x320/iter_1000.pth'
vit = dict(model='vit_tiny_patch16_224', img_size=crop_size, weight_init='jax')
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        anchors=[
            dict(vit, embed_dim=8, depth=6, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(vit, embed_dim=192, depth=12, num_heads=3,
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ],
        out_indices=(-1, )),
    decode_head=dict(
        in_index=0, in_channels=192, channels=64, num_classes=11, norm_cfg=dict(type='GN', num_groups=8),
        init_cfg=dict(type='Pretrained', checkpoint=large, prefix='decode_head.')),
    auxiliary_head=None)
custom_hooks = [
    dict(type='mmsnnet.StitchSamplingHook',
         sampler=dict(type='ResourceConstrainedSampler', step_gflops=0.15),
         init_images=50)
]
# The anchors are trained already.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
