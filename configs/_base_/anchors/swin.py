# Swin-Ti, -S and -B.
swins = [
    dict(
        model=f'swin_{size}_patch4_window7_224.ms_in22k_ft_in1k',
        init_cfg=dict(type='TimmPretrained'),
        drop_path_rate=0.2) for size in ('tiny', 'small', 'base')
]
