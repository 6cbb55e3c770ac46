# NYUv2 as MMSegmentation's tools/dataset_converters/nyu.py lays it out: 24231 images to train on, 654 to test on.
dataset_type = 'NYUDataset'
data_root = 'data/nyu'
crop_size = (416, 544)
val_pipeline = [
    dict(type='LoadImageFromFile'),
    # Millimetres become metres.
    dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3),
    dict(type='mmsnnet.CheckDepth'),
    dict(type='PackSegInputs'),
]
# Of pictures without depth, for inference.
test_pipeline = [val_pipeline[0], val_pipeline[3]]
train_pipeline = [
    *val_pipeline[:3],
    dict(type='mmsnnet.NYUCrop'),
    # A depth of 0 is none.
    dict(type='RandomRotate', prob=0.5, degree=2.5, pad_val=0, seg_pad_val=0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomCrop', crop_size=crop_size),
    # The published models' gamma also changed the brightness.
    dict(type='mmsnnet.GammaColorJitter', prob=0.5, gamma=(0.9, 1.1), brightness=(0.75, 1.25), color=(0.9, 1.1), white=1),
    val_pipeline[3],
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/train', depth_map_path='annotations/train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        test_mode=True,
        data_prefix=dict(img_path='images/test', depth_map_path='annotations/test'),
        pipeline=val_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmsnnet.LeanDepthMetric', min_depth_eval=1e-3, max_depth_eval=10.0, crop_type='nyu_crop')
test_evaluator = val_evaluator
