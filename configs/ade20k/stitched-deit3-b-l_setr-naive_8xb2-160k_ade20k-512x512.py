_base_ = './stitched-deit3-s-l_setr-naive_8xb2-160k_ade20k-512x512.py'
model = dict(
    backbone=dict(
        anchors=[
            dict(_base_.model.backbone.anchors[0], model='deit3_base_patch16_224.fb_in22k_ft_in1k'),
            _base_.model.backbone.anchors[1],
        ],
        lora_rank=4))
