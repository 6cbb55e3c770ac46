_base_ = [
    '../_base_/anchors/swin.py',
    '../_base_/models/upernet_stitched-swin.py',
    '../_base_/stitching.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_swin-160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    # The size decides which windows are shifted: at 224, those of the last stage are not.
    backbone=dict(anchors=[dict(anchor, img_size=crop_size) for anchor in _base_.swins]))
