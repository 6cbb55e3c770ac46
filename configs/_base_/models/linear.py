# DINO's linear head: the last map, normed by the ViT's own final norm, and a 1x1 convolution.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255)
decode_head = dict(
    type='FCNHead',
    channels=1024,
    in_channels=1024,
    num_convs=0,
    concat_input=False,
    num_classes=150,
    dropout_ratio=0.1,
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss'))
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(final_norm=True),
    decode_head=decode_head,
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
