# SN-Net v1: routes go from small to large only, and the least-squares start trains as a whole.
_base_ = './stitched-deit3-s-l_setr-naive_8xb2-160k_ade20k-512x512.py'
model = dict(backbone=dict(two_way=False, lora_rank=0))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler = dict(type='UniformSampler')
