_base_ = [
    '../_base_/models/classifier-plain.py',
    '../_base_/stitching.py',
    '../_base_/datasets/camvid-squares_48x48.py',
    '../_base_/schedules/adamw_cls-2k.py',
    '../_base_/classification_runtime.py',
]
# Train the anchors alone first: their weights and heads are where this model starts.
small = 'work_dirs/anchor-s6_b32-2k_camvid-squares-48x48/iter_2000.pth'
large = 'work_dirs/anchor-l12_b32-4k_camvid-squares-48x48/iter_4000.pth'
vit = dict(model='vit_tiny_patch16_224', img_size=_base_.crop_size, patch_size=8, weight_init='jax')
head = dict(_base_.head, num_classes=len(_base_.classes))
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        lora_rank=16,
        exits='own',
        anchors=[
            dict(vit, embed_dim=32, depth=6, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(vit, embed_dim=64, depth=12, num_heads=2,
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ]),
    head=dict(
        type='mmsnnet.PerExit',
        heads=[
            dict(head, in_channels=32, init_cfg=dict(type='Pretrained', checkpoint=small, prefix='head.')),
            dict(head, in_channels=64, init_cfg=dict(type='Pretrained', checkpoint=large, prefix='head.')),
        ]))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler.step_gflops = 0.003
# The anchors are trained already.
optim_wrapper = dict(optimizer=dict(lr=5e-4))
log_processor = dict(by_epoch=False)
