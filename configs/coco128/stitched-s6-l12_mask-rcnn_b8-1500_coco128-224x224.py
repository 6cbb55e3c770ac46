_base_ = [
    '../_base_/models/mask-rcnn_vitdet-narrow.py',
    '../_base_/stitching.py',
    '../_base_/datasets/coco128-instance_224x224.py',
    '../_base_/schedules/adamw_vitdet-1500.py',
    '../_base_/detection_runtime.py',
]
# Train the anchors alone first: their weights, and neck and heads of the large one, are where this model starts.
small = 'work_dirs/anchor-s6_mask-rcnn_b8-1500_coco128-224x224/iter_1500.pth'
large = 'work_dirs/anchor-l12_mask-rcnn_b8-1500_coco128-224x224/iter_1500.pth'
vit = dict(model='vit_tiny_patch16_224', img_size=224, weight_init='jax')
windowed = dict(window_size=6, img_size=224)
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        lora_rank=16,
        anchors=[
            dict(vit, windowed=dict(windowed, global_attn_indexes=(2, 5)), embed_dim=48, depth=6, num_heads=3,
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(vit, windowed=dict(windowed, global_attn_indexes=(2, 5, 8, 11)), embed_dim=128, depth=12, num_heads=4,
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ]),
    neck=dict(in_channels=128, init_cfg=dict(type='Pretrained', checkpoint=large, prefix='neck.')),
    rpn_head=dict(init_cfg=dict(type='Pretrained', checkpoint=large, prefix='rpn_head.')),
    roi_head=dict(init_cfg=dict(type='Pretrained', checkpoint=large, prefix='roi_head.')))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler.step_gflops = 0.3
# The anchors are trained already.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
