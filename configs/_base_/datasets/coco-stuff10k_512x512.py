# Prepare the data with mmsegmentation's tools/dataset_converters/coco_stuff10k.py.
_base_ = './ade20k_512x512.py'
dataset_type = 'COCOStuffDataset'
data_root = 'data/coco_stuff10k'
train = dict(
    type=dataset_type,
    data_root=data_root,
    reduce_zero_label=True,
    data_prefix=dict(img_path='images/train2014', seg_map_path='annotations/train2014'))
test = dict(train, data_prefix=dict(img_path='images/test2014', seg_map_path='annotations/test2014'))
train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=test)
test_dataloader = val_dataloader
