_base_ = [
    '../_base_/models/mask2former.py',
    '../_base_/exact.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
# Train both alone first.
small = 'work_dirs/anchor-dinov3-s_mask2former_8xb2-160k_ade20k-512x512/iter_160000.pth'
large = 'work_dirs/anchor-dinov3-l_mask2former_8xb2-160k_ade20k-512x512/iter_160000.pth'
anchor, neck_weights, head_weights = (
    dict(type='Pretrained', prefix=prefix) for prefix in ('backbone.anchors.0.', 'neck.', 'decode_head.'))
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        anchors=[
            dict(model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(anchor, checkpoint=small)),
            dict(model='vit_large_patch16_dinov3.lvd1689m', init_cfg=dict(anchor, checkpoint=large)),
        ],
        exits='own',
        exact='adapters',
        adapter_rank=32),
    neck=dict(
        _delete_=True,
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.neck, in_channels=384, init_cfg=dict(neck_weights, checkpoint=small)),
            dict(_base_.neck, init_cfg=dict(neck_weights, checkpoint=large)),
        ],
        exact=True),
    decode_head=dict(
        _delete_=True,
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.decode_head, init_cfg=dict(head_weights, checkpoint=small)),
            dict(_base_.decode_head, init_cfg=dict(head_weights, checkpoint=large)),
        ],
        exact=True),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
optim_wrapper = dict(clip_grad=dict(max_norm=0.01, norm_type=2))
