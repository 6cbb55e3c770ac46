_base_ = './anchor-deit3-s_mask-rcnn_8xb8-amp-lsj-100e_coco-1024x1024.py'
model = dict(
    backbone=dict(anchor=dict(model='deit3_base_patch16_224.fb_in22k_ft_in1k')), neck=dict(in_channels=768))
