# Drawn by tools/make_rooms.py, laid out as NYUv2.
_base_ = './nyu_416x544.py'
data_root = 'data/rooms'
crop_size = (96, 128)
train_pipeline = [
    *_base_.val_pipeline[:3],
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmsnnet.GammaColorJitter', prob=0.5),
    _base_.val_pipeline[3],
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=10,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path='images/val', depth_map_path='annotations/val')))
test_dataloader = val_dataloader
val_evaluator = dict(crop_type=None)
test_evaluator = val_evaluator
