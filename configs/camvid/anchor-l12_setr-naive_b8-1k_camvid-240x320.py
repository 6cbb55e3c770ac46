_base_ = './anchor-s6_setr-naive_b8-1k_camvid-240x320.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=192, depth=12, num_heads=3)),
    decode_head=dict(in_channels=192))
