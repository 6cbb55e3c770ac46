_base_ = './mask-rcnn_vitdet.py'
model = dict(backbone=dict(type='mmsnnet.StitchedViT', lora_rank=16))
