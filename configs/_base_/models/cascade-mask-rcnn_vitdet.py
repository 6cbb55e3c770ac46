# ViTDet's Cascade Mask R-CNN: three box heads, each for boxes that overlap the objects more.
_base_ = './mask-rcnn_vitdet.py'
box_head = dict(_base_.model.roi_head.bbox_head, reg_class_agnostic=True)
box_coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0])
rcnn = _base_.model.train_cfg.rcnn
assigner = rcnn.assigner
model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1.0, 0.5, 0.25],
        bbox_head=[
            dict(box_head, bbox_coder=dict(box_coder, target_stds=[0.1 / n, 0.1 / n, 0.2 / n, 0.2 / n]))
            for n in (1, 2, 3)
        ]),
    train_cfg=dict(
        rcnn=[
            dict(rcnn, assigner=dict(assigner, pos_iou_thr=overlap, neg_iou_thr=overlap, min_pos_iou=overlap))
            for overlap in (0.5, 0.6, 0.7)
        ]))
