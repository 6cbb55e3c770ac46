_base_ = [
    '../_base_/models/setr-naive_stitched-vit.py',
    '../_base_/stitching.py',
    '../_base_/datasets/coco-stuff10k_512x512.py',
    '../_base_/schedules/sgd_80k.py',
    '../_base_/default_runtime.py',
]
crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(anchors=[
        dict(model='deit3_small_patch16_224.fb_in22k_ft_in1k', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1),
        dict(model='deit3_large_patch16_224.fb_in22k_ft_in1k', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1),
    ]),
    decode_head=dict(num_classes=171),
    auxiliary_head=[dict(_base_.auxiliary_head, num_classes=171, in_index=index) for index in range(3)],
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
