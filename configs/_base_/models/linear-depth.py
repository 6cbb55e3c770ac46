# DINOv3's linear head for depth: the last map, normed by the ViT's own final norm, and bins of depth.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    # No depth.
    seg_pad_val=0)
decode_head = dict(
    type='LinearDepthHead',
    in_channels=1024,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    min_depth=1e-3,
    max_depth=10.,
    loss_decode=dict(type='SigLoss', warm_up_iters=100))
model = dict(
    type='DepthEstimator',
    data_preprocessor=data_preprocessor,
    backbone=dict(final_norm=True),
    decode_head=decode_head,
    train_cfg=dict(),
    # Of images of this size, the mean of the whole and of the mirrored image: MMSegmentation has no other name for it.
    test_cfg=dict(mode='slide_flip', crop_size=(480, 640), stride=(480, 640)))
