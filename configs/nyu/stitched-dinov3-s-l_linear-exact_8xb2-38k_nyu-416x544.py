_base_ = [
    '../_base_/models/linear-depth.py',
    '../_base_/exact.py',
    '../_base_/datasets/nyu_416x544.py',
    '../_base_/schedules/adamw_onecycle-38k.py',
    '../_base_/depth_runtime.py',
]
# Train the heads of both alone first.
small = 'work_dirs/anchor-dinov3-s_linear-frozen_8xb2-38k_nyu-416x544/iter_38400.pth'
large = 'work_dirs/anchor-dinov3-l_linear-frozen_8xb2-38k_nyu-416x544/iter_38400.pth'
head = dict(type='Pretrained', prefix='decode_head.')
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        type='mmsnnet.StitchedViT',
        exits='own',
        exact='adapters',
        adapter_rank=32,
        anchors=[
            dict(model='vit_small_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained')),
            dict(model='vit_large_patch16_dinov3.lvd1689m', init_cfg=dict(type='TimmPretrained')),
        ]),
    decode_head=dict(
        _delete_=True,
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.model.decode_head, in_channels=384, init_cfg=dict(head, checkpoint=small)),
            dict(_base_.model.decode_head, init_cfg=dict(head, checkpoint=large)),
        ],
        exact=True))
# Iterations, not epochs.
train_dataloader = dict(sampler=dict(type='InfiniteSampler'))
log_processor = dict(by_epoch=False)
# It would watch the large anchor, which stays as it is.
default_hooks = dict(checkpoint=dict(save_best=None))
