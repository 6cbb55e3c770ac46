# Cross-entropy alone: no mixing of images, no smoothed labels.
head = dict(type='LinearClsHead', loss=dict(type='CrossEntropyLoss'))
model = dict(type='ImageClassifier', backbone=dict(out_type='pooled'))
