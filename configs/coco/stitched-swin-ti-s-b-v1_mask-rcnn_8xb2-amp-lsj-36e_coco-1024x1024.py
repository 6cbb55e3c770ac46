_base_ = [
    '../_base_/anchors/swin.py',
    '../_base_/models/mask-rcnn_stitched-swin.py',
    '../_base_/stitching.py',
    '../_base_/datasets/coco-instance_lsj-1024x1024.py',
    '../_base_/schedules/adamw_swin-36e.py',
    '../_base_/detection_runtime.py',
]
# The size decides which windows are shifted: at 224, those of the last stage are not.
model = dict(backbone=dict(anchors=[dict(anchor, img_size=1024) for anchor in _base_.swins]))
train_dataloader = dict(batch_size=2)
