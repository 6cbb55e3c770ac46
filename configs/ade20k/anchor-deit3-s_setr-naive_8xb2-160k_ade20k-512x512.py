_base_ = [
    '../_base_/models/setr-naive_anchor-vit.py',
    '../_base_/no_stitching.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/sgd_160k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        anchor=dict(model='deit3_small_patch16_224.fb_in22k_ft_in1k', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1),
        out_indices=(4, 7, 9, 11)),
    decode_head=dict(in_channels=384),
    auxiliary_head=[dict(_base_.auxiliary_head, in_channels=384, in_index=index) for index in range(3)],
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
