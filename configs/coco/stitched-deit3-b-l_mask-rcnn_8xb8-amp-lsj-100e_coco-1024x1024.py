_base_ = './stitched-deit3-s-l_mask-rcnn_8xb8-amp-lsj-100e_coco-1024x1024.py'
model = dict(
    backbone=dict(anchors=[
        dict(_base_.anchor, model='deit3_base_patch16_224.fb_in22k_ft_in1k', drop_path_rate=0.1),
        dict(_base_.anchor, model='deit3_large_patch16_224.fb_in22k_ft_in1k', drop_path_rate=0.4),
    ]))
