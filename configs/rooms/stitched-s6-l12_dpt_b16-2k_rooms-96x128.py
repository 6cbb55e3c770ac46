_base_ = [
    '../_base_/models/dpt-narrow.py',
    '../_base_/stitching.py',
    '../_base_/datasets/rooms_96x128.py',
    '../_base_/schedules/adamw_5k.py',
    '../_base_/depth_runtime.py',
]
# Train the anchors alone first: their weights, and the head of the large one, are where this model starts.
small = 'work_dirs/anchor-s6_dpt_b16-5k_rooms-96x128/iter_5000.pth'
large = 'work_dirs/anchor-l12_dpt_b16-8k_rooms-96x128/iter_8000.pth'
vit = dict(model='vit_tiny_patch16_224', img_size=_base_.crop_size, weight_init='jax')
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        out_indices=(2, 5, 8, 11),
        lora_rank=16,
        anchors=[
            dict(vit, embed_dim=32, depth=6, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(vit, embed_dim=64, depth=12, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ]),
    decode_head=dict(in_channels=64, init_cfg=dict(type='Pretrained', checkpoint=large, prefix='decode_head.')))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler.step_gflops = 0.005
# The anchors are trained already.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
log_processor = dict(by_epoch=False)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 2000
train_cfg = dict(max_iters=2000)
