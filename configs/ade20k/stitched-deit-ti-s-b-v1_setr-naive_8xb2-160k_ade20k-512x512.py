# SN-Net v1 over its own three anchors.
_base_ = './stitched-deit-ti-s-b_setr-naive_8xb2-160k_ade20k-512x512.py'
model = dict(backbone=dict(two_way=False, lora_rank=0))
custom_hooks = _base_.custom_hooks
custom_hooks[0].sampler = dict(type='UniformSampler')
