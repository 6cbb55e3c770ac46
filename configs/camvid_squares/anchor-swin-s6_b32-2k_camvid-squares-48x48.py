_base_ = './anchor-s6_b32-2k_camvid-squares-48x48.py'
model = dict(
    backbone=dict(
        anchor=dict(
            _delete_=True,
            model='swin_tiny_patch4_window7_224', img_size=_base_.crop_size, window_size=3, drop_path_rate=0.0,
            embed_dim=24, depths=(2, 2, 2), num_heads=(2, 4, 8))),
    # Each stage but the first doubles the width.
    head=dict(in_channels=96))
# At the rate of plain ViTs, the large one of these learns less than the small one.
optim_wrapper = dict(optimizer=dict(lr=8e-4))
