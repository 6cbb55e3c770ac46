_base_ = './stitched-deit3-s-l_8xb64-amp-50e_in1k-224.py'
name = 'deit3_base_patch16_224.fb_in22k_ft_in1k'
model = _base_.model
model.backbone.anchors[1].update(model=name, constant_drop_path=0.15)
model.head.heads[1].update(in_channels=768, init_cfg=dict(type='TimmClassifier', model=name))
