_base_ = './stitched-deit3-s-l_dpt_8xb2-24e_nyu-416x544.py'
anchors = _base_.model.backbone.anchors
anchors[0].model = 'deit3_base_patch16_224.fb_in22k_ft_in1k'
model = dict(backbone=dict(anchors=anchors))
