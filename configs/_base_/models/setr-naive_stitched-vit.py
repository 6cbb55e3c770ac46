# SN-Netv2's model for dense prediction. Training and evaluating its routes also takes ../stitching.py.
_base_ = './setr-naive.py'
model = dict(backbone=dict(type='mmsnnet.StitchedViT', out_indices=(9, 14, 19, 23), lora_rank=16))
