# DPT for depth, as in SN-Netv2: four levels of a ViT, each a map and the class token.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[127.5, 127.5, 127.5],
    std=[127.5, 127.5, 127.5],
    bgr_to_rgb=True,
    pad_val=0,
    # No depth.
    seg_pad_val=0)
decode_head = dict(
    type='DPTDepthHead',
    in_channels=1024,
    min_depth=1e-3,
    max_depth=10.,
    loss_decode=dict(type='SigLoss', warm_up_iters=100))
model = dict(
    type='DepthEstimator',
    data_preprocessor=data_preprocessor,
    backbone=dict(output_cls_token=True),
    decode_head=decode_head,
    train_cfg=dict(),
    # Of images of this size, the mean of the whole and of the mirrored image: MMSegmentation has no other name for it.
    test_cfg=dict(mode='slide_flip', crop_size=(480, 640), stride=(480, 640)))
