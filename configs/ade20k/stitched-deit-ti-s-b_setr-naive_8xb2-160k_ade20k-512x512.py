# Three anchors: routes switch between neighbours in size.
_base_ = [
    '../_base_/models/setr-naive_stitched-vit.py',
    '../_base_/stitching.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/sgd_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
deit = dict(init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        anchors=[
            dict(deit, model='deit_tiny_patch16_224.fb_in1k'),
            dict(deit, model='deit_small_patch16_224.fb_in1k'),
            dict(deit, model='deit_base_patch16_224.fb_in1k'),
        ],
        out_indices=(2, 5, 8, 11)),
    decode_head=dict(in_channels=768),
    auxiliary_head=[dict(_base_.auxiliary_head, in_channels=768, in_index=index) for index in range(3)],
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
