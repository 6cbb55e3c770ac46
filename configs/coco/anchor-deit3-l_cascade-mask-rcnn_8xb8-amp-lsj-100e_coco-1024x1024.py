_base_ = './anchor-deit3-s_cascade-mask-rcnn_8xb8-amp-lsj-100e_coco-1024x1024.py'
model = dict(
    backbone=dict(anchor=dict(model='deit3_large_patch16_224.fb_in22k_ft_in1k', drop_path_rate=0.4)),
    neck=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
