_base_ = './stitched-dinov2-reg4-s-l_linear-exact_8xb2-40k_ade20k-518x518.py'
base = 'work_dirs/anchor-dinov2-reg4-b_linear-frozen_8xb2-40k_ade20k-518x518/iter_40000.pth'
small_head, large_head = _base_.model.decode_head.heads
model = dict(
    backbone=dict(anchors=[
        _base_.model.backbone.anchors[0],
        dict(model='vit_base_patch14_reg4_dinov2.lvd142m', init_cfg=dict(type='TimmPretrained')),
    ]),
    decode_head=dict(heads=[
        small_head,
        dict(large_head, in_channels=768, channels=768, init_cfg=dict(_base_.head, checkpoint=base)),
    ]))
