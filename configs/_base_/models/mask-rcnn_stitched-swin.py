# MMDetection's Mask R-CNN with FPN for Swin-B. Levels leave at the ends of stages, each through a layer norm.
_base_ = './mask-rcnn_vitdet.py'
bbox_head = _base_.model.roi_head.bbox_head
model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        # SN-Net v1's space for Swin.
        two_way=False,
        window=2,
        lora_rank=0,
        out_indices=(1, 3, 21, 23),
        final_norm=True),
    neck=dict(_delete_=True, type='FPN', in_channels=[128, 256, 512, 1024], out_channels=256, num_outs=5),
    rpn_head=dict(num_convs=1),
    roi_head=dict(
        bbox_head=dict(
            _delete_=True,
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            bbox_coder=bbox_head.bbox_coder,
            reg_class_agnostic=False,
            loss_cls=bbox_head.loss_cls,
            loss_bbox=bbox_head.loss_bbox),
        mask_head=dict(norm_cfg=None)))
