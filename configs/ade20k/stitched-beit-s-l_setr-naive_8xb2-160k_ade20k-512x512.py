# BEiT-style anchors, for released checkpoints that tools/convert_official.py has converted.
_base_ = ['./stitched-deit3-s-l_setr-naive_8xb2-160k_ade20k-512x512.py', '../_base_/anchors/beit.py']
model = dict(
    backbone=dict(anchors=[
        dict(_base_.beit, embed_dim=384, depth=12, num_heads=6),
        dict(_base_.beit, embed_dim=1024, depth=24, num_heads=16),
    ]))
