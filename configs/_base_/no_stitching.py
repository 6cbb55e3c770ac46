# In place of stitching.py for an anchor alone: MMEngine's own loops.
custom_hooks = []
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
