_base_ = './anchor-s6_dpt_b16-4k_rooms-96x128.py'
model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11), anchor=dict(embed_dim=128, depth=12, num_heads=4)),
    decode_head=dict(in_channels=128))
