_base_ = [
    '../_base_/models/mask-rcnn_stitched-vitdet.py',
    '../_base_/exact.py',
    '../_base_/datasets/coco-instance_lsj-1024x1024.py',
    '../_base_/schedules/adamw_vitdet-36e.py',
    '../_base_/detection_runtime.py',
]
# Train both alone first.
finished = [
    'work_dirs/anchor-deit3-s_mask-rcnn_8xb8-amp-lsj-100e_coco-1024x1024/iter_184375.pth',
    'work_dirs/anchor-deit3-l_mask-rcnn_8xb8-amp-lsj-100e_coco-1024x1024/iter_184375.pth',
]
anchors = [
    dict(
        model=name,
        windowed=dict(window_size=14, img_size=1024),
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.anchors.0.'))
    for name, checkpoint in zip(
        ('deit3_small_patch16_224.fb_in22k_ft_in1k', 'deit3_large_patch16_224.fb_in22k_ft_in1k'), finished)
]
per_exit = {
    part: dict(
        _delete_=True,
        type='mmsnnet.PerExit',
        heads=[
            dict(_base_.model[part], init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix=f'{part}.'))
            for checkpoint in finished
        ],
        exact=True)
    for part in ('neck', 'rpn_head', 'roi_head')
}
per_exit['neck']['heads'][0]['in_channels'] = 384
model = dict(backbone=dict(anchors=anchors, exits='own', exact='adapters', adapter_rank=32), **per_exit)
del per_exit
