# A narrow DPT head, for models small enough to train on a CPU.
_base_ = './dpt.py'
model = dict(
    decode_head=dict(channels=16, post_process_channels=(16, 16, 16, 16)),
    test_cfg=dict(_delete_=True, mode='whole'))
