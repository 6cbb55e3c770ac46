# Squares of CamVid's frames, each of the class in its middle. Cut by tools/cut_squares.py.
dataset_type = 'CustomDataset'
data_root = 'data/camvid-squares'
crop_size = (48, 48)
# One folder for each, in alphabetical order. All else that needs the classes or their number takes them from here.
classes = ['building', 'car', 'fence', 'pavement', 'road', 'sign', 'sky', 'tree']
data_preprocessor = dict(
    num_classes=len(classes), mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    # The middle stays in the middle, to a few pixels.
    dict(type='RandomResizedCrop', scale=48, crop_ratio_range=(0.75, 1.0), aspect_ratio_range=(0.9, 1.1)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=48),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=f'{data_root}/train', metainfo=dict(classes=classes), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type, data_root=f'{data_root}/val', metainfo=dict(classes=classes), pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator
