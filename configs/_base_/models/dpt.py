# DPT for depth, as in SN-Netv2: four levels of a ViT, each a map and the class token.
_base_ = './depth.py'
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(output_cls_token=True),
    decode_head=dict(type='DPTDepthHead'))
