_base_ = './anchor-s6_dpt_b16-4k_rooms-96x128.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=64)),
    decode_head=dict(in_channels=64))
