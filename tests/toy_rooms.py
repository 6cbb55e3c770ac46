"""A toy job of depth: drawn rooms, tiny ViTs with class tokens beside their maps, and MMSegmentation's runner."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from tools.make_rooms import HEIGHT, WIDTH, make_rooms

BASES = Path(__file__).parents[1] / 'configs' / '_base_'
SIZE = (HEIGHT, WIDTH)
WIDTHS = (16, 32)
HOOK = dict(type='mmsnnet.StitchSamplingHook', sampler=dict(type='UniformSampler'), init_images=3)

_runs = itertools.count()


@pytest.fixture(scope='session')
def rooms_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight rooms to train on, and four to validate on."""
    root = tmp_path_factory.mktemp('data') / 'rooms'
    make_rooms(root, {'train': 8, 'val': 4}, seed=0)
    return root


def dpt(width: int, **kwargs) -> ConfigDict:
    return ConfigDict(type='DPTDepthHead', in_channels=width, channels=8, post_process_channels=[4, 4, 8, 8], **kwargs)


def linear(width: int, **kwargs) -> ConfigDict:
    """DINOv3's, on the last level."""
    return ConfigDict(type='LinearDepthHead', in_channels=width, num_bins=16, norm_cfg=dict(type='BN'), **kwargs)


def toy_vit(index: int, depth: int, model: str = 'vit_tiny_patch16_224') -> ConfigDict:
    """Arguments of a small (0) or a large (1) anchor."""
    return ConfigDict(model=model, img_size=SIZE, embed_dim=WIDTHS[index], depth=depth, num_heads=2)


def rooms_config(root: Path, folder: Path) -> Config:
    """A stitched depth estimator of depths 2 and 4, with shared exits and a DPT head: four routes."""
    cfg = Config(dict(default_scope='mmseg'))
    for base in ('depth_runtime', 'models/dpt', 'datasets/rooms_96x128', 'stitching'):
        cfg.merge_from_dict(Config.fromfile(BASES / f'{base}.py').to_dict())
    cfg.merge_from_dict(
        dict(
            custom_imports=dict(imports=['mmsnnet', 'mmsnnet.depth'], allow_failed_imports=False),
            work_dir=str(folder),
            # MMEngine names loggers by it and the second, and gives runners of one name one logger.
            experiment_name=f'rooms{next(_runs)}',
            log_level='WARNING',
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=7),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
                visualization=dict(type='SegVisualizationHook'),
            ),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=100),
        )
    )
    # MMEngine gives all visualizers of a name the folder of the first.
    cfg.visualizer.pop('name')
    cfg.model.data_preprocessor.size = SIZE
    cfg.model.backbone = ConfigDict(
        type='mmsnnet.StitchedViT',
        anchors=[toy_vit(0, 2), toy_vit(1, 4)],
        out_indices=(0, 1, 2, 3),
        output_cls_token=True,
        lora_rank=2,
    )
    cfg.model.decode_head = dpt(WIDTHS[1])
    cfg.model.test_cfg = ConfigDict(mode='whole')
    cfg.custom_hooks = [HOOK]
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(root)
    return cfg


@pytest.fixture
def make_rooms_config(rooms_root: Path, tmp_path: Path) -> Callable[..., Config]:
    """Makes a config of the job; keywords are merged into it."""

    def make(name: str = 'rooms', **changes) -> Config:
        cfg = rooms_config(rooms_root, tmp_path / name)
        cfg.merge_from_dict(changes)
        return cfg

    # The scope that the last runner set must not decide what the next one finds.
    yield make
    DefaultScope._instance_dict.clear()
