_base_ = [
    '../_base_/models/classifier.py',
    '../_base_/stitching.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/lamb_50e.py',
    '../_base_/classification_runtime.py',
]
anchors = [
    ('deit3_small_patch16_224.fb_in22k_ft_in1k', 384, 0.05),
    ('deit3_large_patch16_224.fb_in22k_ft_in1k', 1024, 0.4),
]
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        lora_rank=64,
        exits='own',
        anchors=[
            dict(model=name, init_cfg=dict(type='TimmPretrained'), constant_drop_path=rate) for name, _, rate in anchors
        ]),
    head=dict(
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.head, in_channels=width, init_cfg=dict(type='TimmClassifier', model=name))
            for name, width, _ in anchors
        ]))
custom_hooks = _base_.custom_hooks
custom_hooks[0].update(
    sampler=dict(type='ResourceConstrainedSampler', step_gflops=1), init_images=100, per_rank_routes=True)
