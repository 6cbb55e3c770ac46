# MMSegmentation's for Swin: norms and tables of relative positions do not decay.
_base_ = './adamw_160k.py'
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.01),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0., custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.))))
