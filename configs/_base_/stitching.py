# What any config with a StitchedViT needs: the hook that trains one route an iteration, and the loops that evaluate many.
custom_hooks = [
    dict(
        type='mmsnnet.StitchSamplingHook',
        sampler=dict(type='ResourceConstrainedSampler', step_gflops=10),
        init_images=50)
]
val_cfg = dict(type='mmsnnet.StitchValLoop', routes='anchors')
test_cfg = dict(type='mmsnnet.StitchTestLoop', routes='all')
