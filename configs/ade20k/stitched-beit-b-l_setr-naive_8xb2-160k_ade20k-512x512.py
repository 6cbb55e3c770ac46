# BEiT-style anchors, for released checkpoints that tools/convert_official.py has converted.
_base_ = './stitched-deit3-b-l_setr-naive_8xb2-160k_ade20k-512x512.py'
beit = dict(
    model='beit_base_patch16_224',
    img_size=512,
    use_abs_pos_emb=True,
    use_rel_pos_bias=True,
    init_values=1e-6,
    drop_path_rate=0.1)
model = dict(
    backbone=dict(anchors=[
        dict(beit, embed_dim=768, depth=12, num_heads=12),
        dict(beit, embed_dim=1024, depth=24, num_heads=16),
    ]))
