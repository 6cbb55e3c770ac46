_base_ = [
    '../_base_/models/mask-rcnn_stitched-vitdet.py',
    '../_base_/stitching.py',
    '../_base_/datasets/coco-instance_lsj-1024x1024.py',
    '../_base_/schedules/adamw_vitdet-100e.py',
    '../_base_/detection_runtime.py',
]
anchor = dict(windowed=dict(window_size=14, img_size=1024), init_cfg=dict(type='TimmPretrained'))
model = dict(
    backbone=dict(
        anchors=[
            dict(anchor, model='deit3_small_patch16_224.fb_in22k_ft_in1k', drop_path_rate=0.1),
            dict(anchor, model='deit3_large_patch16_224.fb_in22k_ft_in1k', drop_path_rate=0.4),
        ],
        # Set to True to recompute blocks in the backward pass: less memory, more time.
        with_cp=False))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler.step_gflops = 30
