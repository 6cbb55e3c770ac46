"""The published configs at full size, on real photographs through their own pipelines, with random weights.

$ python -m pytest -m slow -s tests/test_full_size.py

A config takes one to two minutes on two cores and up to 12 GiB; time and peak memory are printed.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from toys import SHARED

from mmsnnet.building import build_model, forget_pretrained

ROOT = Path(__file__).parents[1]
DATA_ROOTS = {
    'ade20k': SHARED / 'data/ade20k_sample',
    'coco_stuff10k': SHARED / 'data/coco_stuff10k_sample',
    'coco': SHARED / 'data/tiny_coco',
    # Its photographs, as if of ImageNet's first classes.
    'imagenet': SHARED / 'data/tiny_coco',
}
METRICS = {'coco': 'coco/bbox_mAP', 'imagenet': 'accuracy/top1'}
CONFIGS = [
    path
    for folder in DATA_ROOTS
    for path in sorted((ROOT / 'configs' / folder).glob('*.py' if folder == 'imagenet' else 'stitched-*.py'))
    # The same model with another schedule.
    if not re.search('head-lr10|mask-rcnn_8xb8-amp-lsj-36e', path.name)
]


def forget_weights(cfg: Config, folder: Path) -> None:
    """Let a model start with random weights; finished anchors and heads from a checkpoint of such."""
    forget_pretrained(cfg.model)
    parts = [part for value in cfg.model.values() for part in (value if isinstance(value, list) else [value])]
    heads = [head for part in parts if isinstance(part, dict) for head in part.get('heads', ())]
    backbone = cfg.model.backbone
    for part in (*(backbone.get('anchors') or [backbone.anchor]), *heads, cfg.model.get('head', {})):
        part.pop('init_cfg', None)
    if teacher := cfg.model.get('teacher'):
        teacher.file = str(folder / 'teacher.pth')
        torch.save(timm.create_model(teacher.model).state_dict(), teacher.file)
    if backbone.get('exact'):
        cfg.load_from = str(folder / 'finished.pth')
        torch.save({'state_dict': build_model(cfg.copy()).state_dict()}, cfg.load_from)


def on_sample(path: Path, data_root: Path, folder: Path) -> Config:
    """A config that trains one iteration and evaluates the anchors' routes on one image of a sample, saving nothing."""
    cfg = Config.fromfile(path)
    forget_weights(cfg, folder)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(data_root)
        loader.num_workers, loader.persistent_workers = 0, False
    if path.parent.name == 'ade20k':
        # Its sample has the validation split alone.
        cfg.train_dataloader.dataset.data_prefix = cfg.val_dataloader.dataset.data_prefix
    if path.parent.name == 'coco':
        cfg.train_dataloader.dataset.update(
            ann_file=cfg.val_dataloader.dataset.ann_file, data_prefix=cfg.val_dataloader.dataset.data_prefix
        )
        cfg.train_dataloader.batch_size = 1
        cfg.val_evaluator.ann_file = str(data_root / cfg.val_dataloader.dataset.ann_file)
        cfg.optim_wrapper.type = 'OptimWrapper'  # AMP wants a GPU
    if path.parent.name == 'imagenet':
        as_image_folders(cfg, data_root, folder)
    else:
        cfg.val_dataloader.dataset.indices = 1
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1)
    if 'routes' in cfg.val_cfg:
        cfg.val_cfg.routes = 'anchors'
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1, save_last=False)
    for hook in cfg.custom_hooks:
        hook.init_images = 2
        if 'focus' in hook:
            # To choose by loss would run all routes.
            hook.focus = [2]
    return cfg


def as_image_folders(cfg: Config, photographs: Path, folder: Path) -> None:
    """Let a classifier train for an epoch of one batch."""
    for split, loader in (('train', cfg.train_dataloader), ('val', cfg.val_dataloader)):
        for index in range(1000):
            (folder / split / f'{index:03}').mkdir(parents=True)
        for index, photograph in enumerate(sorted(photographs.glob('*/*.jpg'))[:4]):
            (folder / split / f'{index:03}' / photograph.name).symlink_to(photograph)
        loader.update(batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False))
        loader.dataset.data_root = str(folder)
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    cfg.optim_wrapper.type = 'OptimWrapper'  # AMP wants a GPU


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_trains_and_evaluates_one_step(path, tmp_path):
    data_root = DATA_ROOTS[path.parent.name]
    if not data_root.is_dir():
        pytest.skip(f'no {data_root}: put it there, then run python -m pytest -m slow {Path(__file__).name}')
    on_sample(path, data_root, tmp_path).dump(tmp_path / 'config.py')
    command = [sys.executable, ROOT / 'tools/train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'out']
    start = time.perf_counter()
    with (tmp_path / 'log').open('w') as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, (tmp_path / 'log').read_text()[-3000:]
    print(f'\n{path.stem}: {time.perf_counter() - start:.0f} s, {usage.ru_maxrss / 2**20:.1f} GiB')
    scalars = next((tmp_path / 'out').glob('*/vis_data/scalars.json')).read_text().splitlines()
    step, *_, scores = map(json.loads, scalars)
    assert step['loss'] > 0
    assert 0 <= scores[METRICS.get(path.parent.name, 'mIoU')] <= 100
