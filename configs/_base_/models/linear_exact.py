# Two finished models with linear heads, and low-rank updates of both for the routes between them.
_base_ = './linear.py'
model = dict(backbone=dict(type='mmsnnet.StitchedViT', exits='own', exact='adapters', adapter_rank=32))
