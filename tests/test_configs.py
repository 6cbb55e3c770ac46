"""Every config builds at full size (on shapes alone), fits its data set, and costs what was published."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmsnnet.cli import build_model, forget_pretrained
from mmsnnet.models import find_backbone, measure_costs

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / 'shared' / 'golden' / 'published_ade20k_s_l.json'
CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_')
S_L = ROOT / 'configs/ade20k/stitched-deit3-s-l_setr-naive_8xb2-160k_ade20k-512x512.py'


def test_file_names_are_unique_as_mim_needs():
    names = [path.name for path in ROOT.glob('configs/**/*.py')]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_builds_and_fits_its_data_set(path):
    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = build_model(cfg)
    heads = [model.decode_head, *(getattr(model, 'auxiliary_head', None) or [])]
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get('classes')
    classes = classes or DATASETS.get(f'mmseg.{cfg.train_dataloader.dataset.type}').METAINFO['classes']
    for head in heads:
        assert head.num_classes == len(classes)
        assert head.in_channels == model.backbone.out_channels
        assert head.in_index < len(model.backbone.out_indices)
    assert tuple(cfg.crop_size) == tuple(model.data_preprocessor.size)
    crops = [step.crop_size for step in cfg.train_pipeline if step.type == 'RandomCrop']
    assert all(tuple(crop) == tuple(cfg.crop_size) for crop in crops)


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.name.startswith('stitched')], ids=lambda p: p.stem)
def test_stitched_configs_train_and_evaluate_routes(path):
    cfg = Config.fromfile(path)
    assert [hook.type for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']
    assert (cfg.val_cfg.type, cfg.test_cfg.type) == ('mmsnnet.StitchValLoop', 'mmsnnet.StitchTestLoop')
    assert cfg.test_cfg.routes == 'all'
    assert cfg.find_unused_parameters


def test_both_recipes_of_the_released_code_are_there():
    as_run = Config.fromfile(S_L).optim_wrapper
    intended = Config.fromfile(str(S_L).replace('160k_', '160k-head-lr10_')).optim_wrapper
    assert (as_run.optimizer.weight_decay, as_run.get('paramwise_cfg')) == (5e-4, None)
    assert intended.optimizer.weight_decay == 0
    assert intended.paramwise_cfg.custom_keys.head.lr_mult == 10


@pytest.fixture(scope='module')
def s_l_costs():
    model = build_model(Config.fromfile(S_L))
    return find_backbone(model).space, measure_costs(model, (512, 512))


def test_s_l_anchors_cost_what_their_blocks_and_head_do(s_l_costs):
    """fvcore's count, block by block: N tokens of width d cost 12 N d^2 + 2 N^2 d + 10 N d."""
    _, costs = s_l_costs
    tokens, head = 1025, 920_125_440

    def blocks_and_patches(depth: int, width: int) -> int:
        block = 12 * tokens * width**2 + 2 * tokens**2 * width + 10 * tokens * width
        return depth * block + 1024 * 768 * width

    assert costs[1].flops == blocks_and_patches(24, 1024) + head == 363_157_291_008
    # The small anchor's last output goes through a stitching layer with an update of rank 16.
    tap = tokens * (384 * 1024 + 16 * (384 + 1024))
    assert costs[0].flops == blocks_and_patches(12, 384) + tap + head


@pytest.mark.skipif(not PUBLISHED.exists(), reason=f'needs {PUBLISHED.name}: keep shared/ beside the repository')
def test_s_l_routes_cost_what_was_published(s_l_costs):
    space, costs = s_l_costs
    stitches = json.loads(PUBLISHED.read_text())['stitches']
    assert len(stitches) == len(space)
    for stitch in stitches:
        # The released code keeps a degenerate stitch 13.
        route = space[stitch['official_id'] - (stitch['official_id'] > 13)]
        assert route.kind == stitch['kind']
        assert costs[route.id].flops == pytest.approx(stitch['flops'], rel=0.015)


def test_forgetting_pretrained_weights_leaves_no_file_to_load():
    overlay = dict(file='missing.pth')
    anchors = [dict(model='a', pretrained=True, pretrained_cfg_overlay=overlay), dict(model='b', checkpoint_path='c')]
    cfg = Config(dict(model=dict(backbone=dict(anchors=anchors))))
    forget_pretrained(cfg.model)
    assert cfg.model.backbone.anchors == [dict(model='a', pretrained=False), dict(model='b', pretrained=False)]


def test_small_stitched_configs_start_from_the_checkpoints_that_their_anchors_leave():
    for name in ('shapes', 'camvid'):
        (stitched,) = ROOT.glob(f'configs/{name}/stitched-*.py')
        for anchor in Config.fromfile(stitched).model.backbone.anchors:
            checkpoint = Path(anchor.init_cfg.checkpoint)
            alone = Config.fromfile(ROOT / 'configs' / name / f'{checkpoint.parent.name}.py')
            assert checkpoint.name == f'iter_{alone.train_cfg.max_iters}.pth'
            wanted = {key: value for key, value in anchor.items() if key != 'init_cfg'}
            assert wanted == alone.model.backbone.anchor


def stock_config(name: str) -> Config:
    import mmseg

    (path,) = Path(mmseg.__path__[0], '.mim', 'configs').glob(f'*/{name}')
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ('name', 'width'),
    [
        ('setr_vit-l_naive_8xb2-160k_ade20k-512x512.py', 1024),
        ('vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py', 768),
    ],
)
def test_backbone_of_a_stock_config_can_be_swapped(name, width):
    """The README's recipe, with short anchors of the real widths."""
    cfg = stock_config(name)
    vit = dict(model='deit3_small_patch16_224', num_heads=4)
    cfg.merge_from_dict(
        dict(
            model=dict(
                pretrained=None,
                backbone=dict(
                    _delete_=True,
                    type='mmsnnet.StitchedViT',
                    anchors=[dict(vit, embed_dim=32, depth=4), dict(vit, embed_dim=width, depth=4)],
                    out_indices=(0, 1, 2, 3),
                ),
            )
        )
    )
    init_default_scope(cfg.default_scope)
    # One process trains here, and SyncBN needs several GPUs.
    text = cfg.pretty_text.replace("type='SyncBN'", "type='BN'")
    model = build_model(Config.fromstring(text, '.py')).train()
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 150, (1, 64, 96))))
    sample.set_metainfo(dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96)))
    for route in ('s[0:4]', 'l[0:2]-s[2:4]', 'l[0:4]'):
        find_backbone(model).set_route(route)
        losses = model.loss(torch.rand(2, 3, 64, 96), [sample, sample])
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        assert model.decode_head.conv_seg.weight.grad.abs().sum() > 0
