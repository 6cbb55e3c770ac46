custom_imports = dict(imports=['mmsnnet'], allow_failed_imports=False)
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
# MMEngine resumes with the seed of the config, not that of the interrupted run: without one, data come in another order.
randomness = dict(seed=0)
# A route trains only the blocks it runs.
find_unused_parameters = True
