# What BEiT-style anchors have in common.
beit = dict(
    model='beit_base_patch16_224',
    img_size=512,
    use_abs_pos_emb=True,
    use_rel_pos_bias=True,
    init_values=1e-6,
    drop_path_rate=0.1)
