# Drawn by tools/experiments/scenes.py, which configs must import: images to train on without end, and others to validate.
dataset_type = 'DrawnScenes'
crop_size = (96, 96)
train_pipeline = [dict(type='DrawScene'), dict(type='PackSegInputs')]
test_pipeline = train_pipeline
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type=dataset_type, first=1000, count=200_000, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, first=0, count=500, test_mode=True, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
