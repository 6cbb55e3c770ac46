# SN-Net v1's 71 networks, with its recipe.
_base_ = [
    '../_base_/models/classifier_taught.py',
    '../_base_/stitching.py',
    '../_base_/datasets/imagenet_deit-224.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/classification_runtime.py',
]
custom_imports = dict(imports=['mmsnnet', 'mmsnnet.models.taught_classifier'])
anchors = [
    ('deit_tiny_patch16_224.fb_in1k', 192),
    ('deit_small_patch16_224.fb_in1k', 384),
    ('deit_base_patch16_224.fb_in1k', 768),
]
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        two_way=False,
        window=2,
        lora_rank=0,
        exits='own',
        anchors=[dict(model=name, init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1) for name, _ in anchors]),
    head=dict(
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.head, in_channels=width, init_cfg=dict(type='TimmClassifier', model=name))
            for name, width in anchors
        ]))
custom_hooks = _base_.custom_hooks
custom_hooks[0].update(init_images=100, per_rank_routes=True)
custom_hooks[0].sampler = dict(type='UniformSampler')
