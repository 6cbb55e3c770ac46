# SN-Net v1's space for Swin.
_base_ = './stitched-s6-l12_b32-2k_camvid-squares-48x48.py'
small = 'work_dirs/anchor-swin-s6_b32-2k_camvid-squares-48x48/iter_2000.pth'
large = 'work_dirs/anchor-swin-l10_b32-4k_camvid-squares-48x48/iter_4000.pth'
swin = dict(
    model='swin_tiny_patch4_window7_224', img_size=_base_.crop_size, window_size=3, drop_path_rate=0.0,
    num_heads=(2, 4, 8))
model = dict(
    backbone=dict(
        two_way=False,
        window=2,
        anchors=[
            dict(swin, embed_dim=24, depths=(2, 2, 2),
                 init_cfg=dict(type='Pretrained', checkpoint=small, prefix='backbone.anchors.0.')),
            dict(swin, embed_dim=48, depths=(2, 6, 2),
                 init_cfg=dict(type='Pretrained', checkpoint=large, prefix='backbone.anchors.0.')),
        ]),
    head=dict(
        heads=[
            dict(_base_.head, in_channels=96, init_cfg=dict(type='Pretrained', checkpoint=small, prefix='head.')),
            dict(_base_.head, in_channels=192, init_cfg=dict(type='Pretrained', checkpoint=large, prefix='head.')),
        ]))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler = dict(type='UniformSampler')
