# In place of stitching.py for finished models, which stay as they are: a few routes between them train.
_base_ = './stitching.py'
custom_hooks = [
    dict(type='mmsnnet.StitchSamplingHook', sampler=dict(type='UniformSampler'), focus=dict(routes=8), init_images=50)
]
# Finished anchors keep their metrics.
val_cfg = dict(routes='trained')
test_cfg = dict(routes='trained')
