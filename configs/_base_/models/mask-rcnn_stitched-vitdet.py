# ViTDet's Mask R-CNN over a stitched backbone. Training and evaluating its routes also takes ../stitching.py.
_base_ = './mask-rcnn_vitdet.py'
model = dict(backbone=dict(type='mmsnnet.StitchedViT', lora_rank=16))
