# Drawn by tools/make_rooms.py.
dataset_type = 'NYUDataset'
data_root = 'data/rooms'
crop_size = (96, 128)
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
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmsnnet.GammaColorJitter', prob=0.5),
    val_pipeline[3],
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/train', depth_map_path='annotations/train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        test_mode=True,
        data_prefix=dict(img_path='images/val', depth_map_path='annotations/val'),
        pipeline=val_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmsnnet.LeanDepthMetric', min_depth_eval=1e-3, max_depth_eval=10.0)
test_evaluator = val_evaluator
