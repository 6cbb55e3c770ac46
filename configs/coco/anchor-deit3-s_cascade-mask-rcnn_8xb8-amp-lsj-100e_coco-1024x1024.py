_base_ = [
    '../_base_/models/cascade-mask-rcnn_vitdet.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/coco-instance_lsj-1024x1024.py',
    '../_base_/schedules/adamw_vitdet-100e.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.AnchorViT',
        anchor=dict(
            model='deit3_small_patch16_224.fb_in22k_ft_in1k',
            windowed=dict(window_size=14, img_size=1024),
            init_cfg=dict(type='TimmPretrained'),
            drop_path_rate=0.1)),
    neck=dict(in_channels=384))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
