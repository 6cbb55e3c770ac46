_base_ = [
    '../_base_/models/setr-naive_stitched-vit.py',
    '../_base_/stitching.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]
# A multiple of the patch size, 14.
crop_size = (518, 518)
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        anchors=[
            dict(model='vit_small_patch14_dinov2.lvd142m', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1),
            dict(model='vit_base_patch14_dinov2.lvd142m', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1),
        ],
        out_indices=(2, 5, 8, 11)),
    decode_head=dict(in_channels=768),
    auxiliary_head=[dict(_base_.auxiliary_head, in_channels=768, in_index=index) for index in range(3)],
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
