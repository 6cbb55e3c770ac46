# Drawn by tools/make_shapes.py.
dataset_type = 'BaseSegDataset'
data_root = 'data/shapes'
crop_size = (96, 96)
metainfo = dict(
    classes=('ground', 'disc', 'ring', 'square', 'frame', 'triangle', 'star'),
    palette=[[80, 80, 80], [0, 114, 178], [86, 180, 233], [0, 158, 115], [240, 228, 66], [230, 159, 0], [213, 94, 0]])
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_pipeline = [*test_pipeline[:2], dict(type='RandomFlip', prob=0.5), test_pipeline[2]]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        metainfo=metainfo,
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        metainfo=metainfo,
        data_root=data_root,
        img_suffix='.png',
        data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
