_base_ = './anchor-s6_setr-naive_b16-500_shapes-96x96.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=128, depth=12, num_heads=4)),
    decode_head=dict(in_channels=128))
