_base_ = './stitched-dinov3-s-l_linear-exact_8xb2-40k_ade20k-512x512.py'
base = 'work_dirs/anchor-dinov3-b_linear-frozen_8xb2-40k_ade20k-512x512/iter_40000.pth'
small_head, large_head = _base_.model.decode_head.heads
model = dict(
    backbone=dict(anchors=[
        _base_.model.backbone.anchors[0],
        dict(model='vit_base_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained')),
    ]),
    decode_head=dict(
        heads=[small_head, dict(large_head, in_channels=768, channels=768, init_cfg=dict(_base_.head, checkpoint=base))]))
