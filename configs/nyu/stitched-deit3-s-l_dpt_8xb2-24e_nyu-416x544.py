_base_ = [
    '../_base_/models/dpt.py',
    '../_base_/stitching.py',
    '../_base_/datasets/nyu_416x544.py',
    '../_base_/schedules/adamw_onecycle-24e.py',
    '../_base_/depth_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        out_indices=(4, 11, 17, 23),
        lora_rank=16,
        anchors=[
            dict(model='deit3_small_patch16_224.fb_in22k_ft_in1k', init_cfg=dict(type='TimmPretrained')),
            dict(model='deit3_large_patch16_224.fb_in22k_ft_in1k', init_cfg=dict(type='TimmPretrained')),
        ]))
