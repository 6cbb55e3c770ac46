# Between the other two in cost: what a size in between reaches without any stitching.
_base_ = './anchor-l6_setr-naive_b8-800_scenes-96x96.py'
model = dict(
    backbone=dict(anchor=dict(embed_dim=108)),
    decode_head=dict(in_channels=108))
