_base_ = [
    '../_base_/models/dino-4scale_vit.py',
    '../_base_/stitching.py',
    '../_base_/datasets/coco-instance_lsj-1024x1024.py',
    '../_base_/schedules/adamw_dino-36e.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmsnnet.StitchedViT',
        anchors=[
            dict(model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.1),
            dict(model='vit_large_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained'), drop_path_rate=0.3),
        ],
        lora_rank=16,
        # Set to True to recompute blocks in the backward pass: less memory, more time.
        with_cp=False))
custom_hooks = [
    dict(type='mmsnnet.StitchSamplingHook', sampler=dict(type='UniformSampler'), focus=dict(routes=8), init_images=50)
]
# DINO finds boxes, and no masks.
train_dataloader = dict(batch_size=2)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
