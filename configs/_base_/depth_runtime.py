_base_ = './default_runtime.py'
custom_imports = dict(imports=['mmsnnet', 'mmsnnet.depth'])
log_processor = dict(by_epoch=True)
