# SN-Net v1's 41 networks of Swin-Ti, -S and -B, with its recipe.
_base_ = [
    '../_base_/anchors/swin.py',
    '../_base_/models/classifier.py',
    '../_base_/stitching.py',
    '../_base_/datasets/imagenet_deit-224.py',
    '../_base_/schedules/adamw_swin-50e.py',
    '../_base_/classification_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        two_way=False,
        window=2,
        lora_rank=0,
        exits='own',
        anchors=_base_.swins),
    head=dict(
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.head, in_channels=width, init_cfg=dict(type='TimmClassifier', model=anchor.model))
            for anchor, width in zip(_base_.swins, (768, 768, 1024))
        ]),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
custom_hooks = _base_.custom_hooks
custom_hooks[0].update(init_images=100, per_rank_routes=True)
custom_hooks[0].sampler = dict(type='UniformSampler')
