_base_ = './anchor-deit3-s_b32-2k_image-folder-224.py'
model = dict(
    backbone=dict(anchor=dict(model='deit3_base_patch16_224.fb_in22k_ft_in1k', drop_path_rate=0.15)),
    head=dict(in_channels=768))
