# SETR-naive with three auxiliary heads, over any backbone of four maps.
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255)
decode_head = dict(
    type='SETRUPHead',
    in_channels=1024,
    in_index=3,
    channels=256,
    num_convs=1,
    up_scale=4,
    kernel_size=1,
    num_classes=150,
    dropout_ratio=0,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0))
auxiliary_head = dict(
    decode_head, num_convs=2, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    decode_head=decode_head,
    auxiliary_head=[dict(auxiliary_head, in_index=index) for index in range(3)],
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
