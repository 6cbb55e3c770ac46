# A depth estimator of NYUv2's range and size, without backbone.
model = dict(
    type='DepthEstimator',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        bgr_to_rgb=True,
        pad_val=0,
        # No depth.
        seg_pad_val=0),
    decode_head=dict(
        in_channels=1024,
        min_depth=1e-3,
        max_depth=10.,
        loss_decode=dict(type='SigLoss', warm_up_iters=100)),
    train_cfg=dict(),
    # Of images of this size, the mean of the whole and of the mirrored image: MMSegmentation has no other name for it.
    test_cfg=dict(mode='slide_flip', crop_size=(480, 640), stride=(480, 640)))
