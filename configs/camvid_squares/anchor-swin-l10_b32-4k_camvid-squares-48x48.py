_base_ = './anchor-l12_b32-4k_camvid-squares-48x48.py'
model = dict(
    backbone=dict(
        anchor=dict(
            _delete_=True,
            model='swin_tiny_patch4_window7_224', img_size=_base_.crop_size, window_size=3, drop_path_rate=0.0,
            embed_dim=48, depths=(2, 6, 2), num_heads=(2, 4, 8))),
    head=dict(in_channels=192))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
