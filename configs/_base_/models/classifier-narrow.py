# For small models trained from scratch.
head = dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss'))
model = dict(type='ImageClassifier', backbone=dict(out_type='pooled'))
