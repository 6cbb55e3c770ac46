_base_ = './anchor-s6_setr-naive_b8-800_scenes-96x96.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=144, num_heads=3)),
    decode_head=dict(in_channels=144))
# A wide model spoils at the small one's rate.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
