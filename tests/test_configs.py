"""Every config builds at full size (on shapes alone), fits its data set, and costs what was published."""

import copy
import ctypes
import functools
import json
from importlib import import_module
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, OPTIMIZERS, TRANSFORMS, init_default_scope

from mmsnnet.building import build_model, forget_pretrained
from mmsnnet.engine import configured_input_shape
from mmsnnet.engine.exit_checks import check_exits, wanted_channels
from mmsnnet.engine.samplers import FocusedSampler
from mmsnnet.models import PerExit, find_backbone, model_cost, route_costs
from mmsnnet.models.teachers import check_teacher, create_teacher
from mmsnnet.registry import MODELS
from mmsnnet.stitching import CostTable

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / 'shared' / 'golden' / 'published_ade20k_s_l.json'
CONFIGS = sorted(path for path in ROOT.glob('configs/*/*.py') if path.parent.name != '_base_')
CLASSIFIERS = [path for path in CONFIGS if path.parent.name in ('imagenet', 'camvid_squares', 'image_folder')]
IMAGENET = [path for path in CLASSIFIERS if path.parent.name == 'imagenet']
SEGMENTORS = [path for path in CONFIGS if path.parent.name in ('ade20k', 'camvid', 'coco_stuff10k', 'scenes', 'shapes')]
TAUGHT = [path for path in CLASSIFIERS if '-deit-' in path.name]
DETECTORS = [path for path in CONFIGS if 'mask-rcnn' in path.name]
STITCHED = [path for path in CONFIGS if path.name.startswith('stitched')]
EXACT = [path for path in STITCHED if '-exact' in path.name]
SWINS = [path for path in CONFIGS if '-swin-' in path.name]
S_L = ROOT / 'configs/ade20k/stitched-deit3-s-l_setr-naive_8xb2-160k_ade20k-512x512.py'


@functools.cache
def _read(path: Path) -> Config:
    return Config.fromfile(path)


def read(path: Path) -> Config:
    """A config of its own for each caller: reading one takes as long as many a test."""
    return copy.deepcopy(_read(path))


@functools.cache
def built(path: Path) -> torch.nn.Module:
    """A config's model, of shapes alone. Tests share it: they only look."""
    with torch.device('meta'):
        return build_model(read(path))


def of_anchors(head: torch.nn.Module) -> list[torch.nn.Module]:
    """A head, or those of a ``PerExit``."""
    return list(head.anchors) if isinstance(head, PerExit) else [head]


def test_file_names_are_unique_as_mim_needs():
    names = [path.name for path in ROOT.glob('configs/**/*.py')]
    assert len(names) == len(set(names))


@pytest.mark.parametrize('path', SEGMENTORS, ids=lambda path: path.stem)
def test_config_builds_and_fits_its_data_set(path):
    cfg, model = read(path), built(path)
    auxiliary = getattr(model, 'auxiliary_head', None) or []
    auxiliary = [auxiliary] if hasattr(auxiliary, 'num_classes') else auxiliary
    heads = [*of_anchors(model.decode_head), *auxiliary]
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get('classes')
    classes = classes or DATASETS.get(f'mmseg.{cfg.train_dataloader.dataset.type}').METAINFO['classes']
    neck = getattr(model, 'neck', None)
    for index, head in enumerate(heads):
        assert head.num_classes == len(classes)
        if neck is None:
            levels = model.backbone.level_channels(index if path in EXACT else len(model.backbone.anchors) - 1)
            assert wanted_channels(head, levels) is None
    assert tuple(cfg.crop_size) == tuple(model.data_preprocessor.size)
    crops = [step.crop_size for step in cfg.train_pipeline if step.type == 'RandomCrop']
    assert all(tuple(crop) == tuple(cfg.crop_size) for crop in crops)


@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_detector_builds_and_fits_its_data_set(path):
    cfg, model = read(path), built(path)
    for head in of_anchors(model.roi_head):
        for part in (head.bbox_head, head.mask_head):
            parts = part if isinstance(part, torch.nn.ModuleList) else [part]
            assert {part.num_classes for part in parts} == {80}
    if path not in EXACT:
        channels = cfg.model.neck.in_channels
        levels = model.backbone.level_channels(len(model.backbone.anchors) - 1)
        assert (channels if isinstance(channels, list) else [channels]) == list(levels)
    if path in SWINS:
        return
    assert model.backbone.out_indices == (model.backbone.anchors[-1].depth - 1,)
    # All images are padded to the size that costs are measured at and relative positions were made for.
    assert configured_input_shape(model, cfg) == (model.data_preprocessor.pad_size_divisor,) * 2
    side = cfg.image_size[0] // 16
    for anchor in model.backbone.anchors:
        sides = {block.window_size or side for block in anchor.blocks}
        assert {len(block.attn.rel_pos_h) for block in anchor.blocks} == {2 * size - 1 for size in sides}
        assert len(sides) == 2
    scales = [tuple(step.scale) for step in cfg.test_pipeline if step.type == 'Resize']
    assert scales == [tuple(cfg.image_size)]


@pytest.mark.parametrize(
    'path',
    [path for path in DETECTORS if path.parent.name == 'coco' and path not in SWINS],
    ids=lambda path: path.stem,
)
def test_coco_configs_train_as_vitdet(path):
    cfg, model = read(path), built(path)
    wrapper = {**cfg.optim_wrapper, 'type': 'OptimWrapper'}  # AMP wants a GPU
    groups = {group['name']: group['lr_scale'] for group in build_optim_wrapper(model, wrapper).optimizer.param_groups}
    for index, anchor in enumerate(model.backbone.anchors if path not in EXACT else ()):
        rate = 0.8 if anchor.depth == 24 else 0.7
        assert groups[f'anchors.{index} layer 0'] == pytest.approx(rate ** (anchor.depth + 1))
        assert groups[f'anchors.{index} layer {anchor.depth}'] == pytest.approx(rate)
    assert groups['heads'] == 1
    iterations = cfg.train_cfg.max_iters
    assert iterations in (184375, 66375)  # 100 and 36 epochs of 118,000 images in batches of 64
    milestones = cfg.param_scheduler[1].milestones
    assert [milestone / iterations for milestone in milestones] == pytest.approx([8 / 9, 0.963], abs=1e-3)
    assert cfg.train_dataloader.batch_size == 8


@pytest.fixture
def _return_memory():
    """Return the memory of a large model to the system, which slows down what runs later on a machine without much."""
    yield
    if hasattr(libc := ctypes.CDLL(None), 'malloc_trim'):
        libc.malloc_trim(0)


def detection_costs(name: str) -> list[float]:
    (path,) = [path for path in DETECTORS if path.name.startswith(f'{name}_mask-rcnn_') and '100e' in path.name]
    model = build_model(read(path))
    if name.startswith('anchor'):
        return [model_cost(model, (1024, 1024)).gflops]
    return route_costs(model, (1024, 1024)).gflops


@pytest.mark.parametrize('path', CLASSIFIERS, ids=lambda path: path.stem)
def test_classifiers_fit_their_data_set(path):
    cfg, model = read(path), built(path)
    num_classes = len(cfg.classes) if 'classes' in cfg else 1000
    assert configured_input_shape(model, cfg) == tuple(cfg.crop_size)
    assert cfg.data_preprocessor.num_classes == num_classes
    for anchor, head in zip(model.backbone.anchors, of_anchors(model.head), strict=True):
        assert (head.in_channels, head.num_classes) == (anchor.out_channels(anchor.depth), num_classes)


@pytest.mark.parametrize('path', IMAGENET, ids=lambda path: path.stem)
def test_heads_on_imagenet_start_from_their_anchor_s_classifier(path):
    cfg = read(path)
    heads = cfg.model.head.get('heads', [cfg.model.head])
    anchors = cfg.model.backbone.get('anchors') or [cfg.model.backbone.anchor]
    names = [anchor.model for anchor in anchors]
    with_classifier = [name for name in names if timm.get_pretrained_cfg(name).num_classes == 1000]
    assert [head.init_cfg.model for head in heads if 'init_cfg' in head] == with_classifier
    assert all(timm.get_pretrained_cfg(name).mean == (0.485, 0.456, 0.406) for name in names)


@pytest.mark.parametrize('path', IMAGENET, ids=lambda path: path.stem)
def test_classifiers_train_on_as_many_images_a_step_as_their_rate_is_for(path):
    cfg = read(path)
    assert path.stem.split('_')[1].startswith(f'8xb{cfg.train_dataloader.batch_size}-')
    assert cfg.auto_scale_lr.base_batch_size == 8 * cfg.train_dataloader.batch_size
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 50


@pytest.mark.parametrize('path', [path for path in IMAGENET if '-deit3-' in path.name], ids=lambda path: path.stem)
def test_deit3_drops_the_paths_of_all_blocks_alike(path):
    """At the rates of the released SN-Netv2."""
    rates = {384: 0.05, 768: 0.15, 1024: 0.4}
    for anchor in built(path).backbone.anchors:
        dropped = {drop.drop_prob for block in anchor.blocks for drop in (block.drop_path1, block.drop_path2)}
        assert dropped == {rates[anchor.embed_dim]}


@pytest.mark.parametrize('name', ['stitched-deit3-s-l', 'stitched-deit-ti-s-b-v1'])
def test_classifiers_get_images_of_the_size_they_are_costed_at(name, tmp_path):
    (path,) = [path for path in IMAGENET if path.name.startswith(f'{name}_')]
    cfg, file = read(path), str(tmp_path / 'image.png')
    noise = np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8)
    assert cv2.imwrite(file, noise)
    init_default_scope(cfg.default_scope)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        sample = Compose([TRANSFORMS.build(step) for step in loader.dataset.pipeline])(dict(img_path=file, gt_label=7))
        assert sample['inputs'].shape == (3, *cfg.crop_size)
        assert sample['data_samples'].gt_label == 7


@pytest.mark.parametrize('path', TAUGHT, ids=lambda path: path.stem)
def test_teachers_know_imagenet_and_see_it_as_the_model_does(path, monkeypatch):
    """With the teacher on shapes alone in place of a pretrained one."""
    cfg, create = read(path), timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, **kwargs: create(name, **{**kwargs, 'pretrained': False}))
    with torch.device('meta'):
        teacher = create_teacher(**cfg.model.teacher)
    check_teacher(teacher, 1000, cfg.data_preprocessor.mean, cfg.data_preprocessor.std)


def classification_costs(name: str) -> CostTable:
    (path,) = [path for path in IMAGENET if path.name.startswith(f'stitched-{name}_')]
    return route_costs(build_model(read(path)), (224, 224))


@pytest.mark.usefixtures('_return_memory')
def test_classifiers_cost_what_was_published():
    """The levels of the 134 routes of DeiT3-S/L, in GFLOPs; each anchor with its own norm and classifier."""
    costs = classification_costs('deit3-s-l').gflops
    assert len(costs) == 134
    for level in (4.61, 14.27, 18.99, 23.7, 28.5, 33.2, 37.9, 42.6, 47.4, 52.1, 61.6):
        assert min(abs(cost / level - 1) for cost in costs) < 0.01
    assert [costs[0], costs[1]] == [min(costs), max(costs)]


@pytest.mark.usefixtures('_return_memory')
def test_the_71_networks_of_sn_net_v1_cost_what_was_published():
    """In FLOPs, from the results in the released code, which leave out the final norm of networks with a switch."""
    costs = classification_costs('deit-ti-s-b-v1')
    assert len(costs) == 71
    assert [cost.flops for cost in costs][:3] == [1_258_411_200, 4_608_338_304, 17_582_740_224]
    assert [cost.params for cost in costs][:3] == [5_717_416, 22_050_664, 86_567_656]
    for start, width, published in (
        (3, 384, (4_696_010_496, 1_652_086_272, 1_549_658_880, 4_798_437_888)),
        (37, 768, (17_961_426_432, 6_121_909_248, 5_742_761_472, 18_340_574_208)),
    ):
        flops = [costs[route].flops - 197 * 5 * width for route in range(start, start + 34)]
        assert (flops[0], flops[-1], min(flops), max(flops)) == published


@pytest.mark.usefixtures('_return_memory')
def test_the_41_networks_of_swin_cost_what_was_published():
    costs = classification_costs('swin-ti-s-b-v1').gflops
    assert len(costs) == 41
    assert costs[:3] == pytest.approx([4.51, 8.77, 15.5], rel=0.003)
    for level in (4.51, 5.60, 6.67, 7.38, 8.77, 11.0, 12.1, 15.5):
        assert min(abs(cost / level - 1) for cost in costs) < 0.003


@pytest.mark.parametrize('path', SWINS, ids=lambda path: path.stem)
def test_swins_shift_the_windows_of_every_other_block(path):
    """But for maps no larger than a window, as ImageNet's last: timm looks at the size that it makes a model for."""
    cfg = read(path)
    image_size = cfg.crop_size if 'crop_size' in cfg else cfg.image_size
    for anchor in built(path).backbone.anchors:
        blocks = iter(anchor.blocks)
        for stage, depth in enumerate(anchor.stages):
            parts = [part for block in islice(blocks, depth) for part in block.modules()]
            shifts = [part.shift_size for part in parts if hasattr(part, 'shift_size')]
            window = anchor.window_size[0]
            shift = window // 2 if image_size[0] // (4 * 2**stage) > window else 0
            assert shifts == [(0, 0), (shift, shift)] * (depth // 2)


@pytest.mark.usefixtures('_return_memory')
def test_detectors_cost_what_was_published():
    """Read off the paper's figure for COCO; and the anchors alone."""
    assert detection_costs('anchor-deit3-s') == pytest.approx([440.9], rel=0.005)
    costs = detection_costs('stitched-deit3-s-l')
    # The route of the large anchor is that anchor alone.
    assert costs[1] == pytest.approx(1807.4, rel=0.005)
    assert len(costs) == 134
    for level in (470, 596, 702, 807, 932, 1036, 1143, 1266, 1371, 1477, 1583, 1688, 1809):
        assert min(abs(cost / level - 1) for cost in costs) < 0.01
    assert [costs[0], costs[1]] == [min(costs), max(costs)] == pytest.approx([470, 1809], rel=0.01)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_optimizers_step(path):
    cfg, weight = read(path), torch.nn.Parameter(torch.ones(2))
    init_default_scope(cfg.default_scope)
    optimizer = OPTIMIZERS.build({**cfg.optim_wrapper.optimizer, 'params': [weight]})
    weight.square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()


@pytest.mark.parametrize('path', STITCHED, ids=lambda path: path.stem)
def test_samplers_take_what_configs_give_them(path):
    (hook,), space = read(path).custom_hooks, built(path).backbone.space
    ids = range(len(space))
    assert FocusedSampler(hook.sampler, space, [1 + id_ for id_ in ids], 0, ids)(0) in ids


@pytest.mark.parametrize('path', EXACT, ids=lambda path: path.stem)
def test_exact_configs_start_from_what_their_anchors_leave(path):
    cfg = read(path)
    backbone = cfg.model.backbone
    parts = [name for name in ('neck', 'decode_head', 'rpn_head', 'roi_head') if name in cfg.model]
    for index, anchor in enumerate(backbone.anchors):
        first = cfg.model[parts[0]].heads[index].init_cfg.checkpoint
        alone = read(path.parent / f'{Path(first).parent.name}.py')
        assert Path(first).name == f'iter_{alone.train_cfg.max_iters}.pth'
        assert anchor.model == alone.model.backbone.anchor.model
        assert anchor.get('windowed') == alone.model.backbone.anchor.get('windowed')
        # A frozen backbone is still as timm has it.
        if anchor.init_cfg.type == 'TimmPretrained':
            assert alone.model.backbone.frozen
        else:
            assert anchor.init_cfg == dict(type='Pretrained', checkpoint=first, prefix='backbone.anchors.0.')
        for name in parts:
            head = dict(cfg.model[name].heads[index])
            assert head.pop('init_cfg') == dict(type='Pretrained', checkpoint=first, prefix=f'{name}.')
            assert head == alone.model[name]
    assert cfg.train_dataloader.dataset == alone.train_dataloader.dataset


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_anchors_take_timm_s_weights(path, monkeypatch):
    """With the same model on shapes alone in place of a pretrained one."""
    settings = read(path).model.backbone
    anchors = settings.get('anchors') or [settings.anchor]
    if any(anchor.get('init_cfg', {}).get('type') != 'TimmPretrained' for anchor in anchors):
        return
    create, loaded = timm.create_model, []

    def create_unloaded(name: str, pretrained: bool = False, **kwargs) -> torch.nn.Module:
        loaded.extend([name] * pretrained)
        return create(name, **kwargs)

    monkeypatch.setattr(timm, 'create_model', create_unloaded)
    # MMEngine's own looks at values.
    monkeypatch.setattr(BaseModule, 'init_weights', lambda self: None)
    with torch.device('meta'):
        MODELS.build(settings).init_weights()
    assert loaded == [anchor.model for anchor in anchors]


@pytest.mark.parametrize('path', STITCHED, ids=lambda path: path.stem)
def test_heads_serve_the_exits(path):
    check_exits(built(path))


@pytest.mark.parametrize('path', STITCHED, ids=lambda path: path.stem)
def test_stitched_configs_train_and_evaluate_routes(path):
    cfg = read(path)
    assert [hook.type for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']
    assert (cfg.val_cfg.type, cfg.test_cfg.type) == ('mmsnnet.StitchValLoop', 'mmsnnet.StitchTestLoop')
    assert cfg.test_cfg.routes == ('trained' if path in EXACT else 'all')
    assert cfg.find_unused_parameters


@pytest.mark.parametrize('path', [path for path in CONFIGS if path.name.startswith('anchor')], ids=lambda p: p.stem)
def test_anchor_configs_train_and_evaluate_with_mmengine_s_own_loops(path):
    cfg = read(path)
    assert cfg.model.backbone.type == 'mmsnnet.AnchorViT'
    assert (cfg.custom_hooks, cfg.val_cfg, cfg.test_cfg) == ([], {'type': 'ValLoop'}, {'type': 'TestLoop'})


def test_both_recipes_of_the_released_code_are_there():
    as_run = read(S_L).optim_wrapper
    intended = read(Path(str(S_L).replace('160k_', '160k-head-lr10_'))).optim_wrapper
    assert (as_run.optimizer.weight_decay, as_run.get('paramwise_cfg')) == (5e-4, None)
    assert intended.optimizer.weight_decay == 0
    assert intended.paramwise_cfg.custom_keys.head.lr_mult == 10


@pytest.fixture(scope='module')
def s_l_costs():
    model = build_model(read(S_L))
    return find_backbone(model).space, route_costs(model, (512, 512))


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
    assert cfg.model.backbone.anchors == [dict(model='a'), dict(model='b')]


def test_small_stitched_configs_start_from_the_checkpoints_that_their_anchors_leave():
    names = ('shapes', 'camvid', 'camvid_squares', 'coco128', 'rooms')
    small = [path for path in STITCHED if path.parent.name in names]
    assert len(small) == 6
    for stitched in small:
        for anchor in read(stitched).model.backbone.anchors:
            checkpoint = Path(anchor.init_cfg.checkpoint)
            alone = read(stitched.parent / f'{checkpoint.parent.name}.py')
            assert checkpoint.name == f'iter_{alone.train_cfg.max_iters}.pth'
            wanted = {key: value for key, value in anchor.items() if key != 'init_cfg'}
            assert wanted == alone.model.backbone.anchor


def stock_config(name: str, package: str = 'mmseg') -> Config:
    (path,) = Path(import_module(package).__path__[0], '.mim', 'configs').glob(f'*/{name}')
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


def test_backbone_and_neck_of_a_stock_detector_can_be_swapped(coco_root):
    """The README's recipe, with short anchors: all routes train and detect on images of any size."""
    cfg = stock_config('mask-rcnn_r50_fpn_1x_coco.py', 'mmdet')
    vit = dict(model='deit3_small_patch16_224', num_heads=4, windowed=dict(window_size=3, img_size=(96, 160)))
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(
                    _delete_=True,
                    type='mmsnnet.StitchedViT',
                    anchors=[dict(vit, embed_dim=16, depth=2), dict(vit, embed_dim=32, depth=4)],
                ),
                neck=dict(_delete_=True, type='mmsnnet.SimpleFPN', in_channels=32, out_channels=256, num_outs=5),
                train_cfg=dict(rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=32))),
                test_cfg=dict(rcnn=dict(score_thr=0.0), rpn=dict(max_per_img=20)),
            ),
        )
    )
    model = build_model(cfg)
    from mmdet.registry import DATASETS as MMDET_DATASETS

    pipeline = cfg.train_pipeline
    for step in pipeline:
        if step.type == 'Resize':
            step.scale = (160, 96)
    dataset = MMDET_DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=str(coco_root / 'train'),
            ann_file='annotations.json',
            data_prefix=dict(img='images'),
            metainfo=dict(classes=('square', 'disc')),
            pipeline=pipeline,
        )
    )
    batch = pseudo_collate([dataset[1], dataset[2]])
    backbone = find_backbone(model)
    for route in backbone.space:
        backbone.set_route(route)
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        model.parse_losses(losses)[0].backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(model.get_parameter(name).grad is not None for name in trained)
    with torch.no_grad():
        results = model.eval().test_step(batch)
    assert all(len(result.pred_instances) for result in results)
    # Costs are measured at the size that MMDetection's own pipeline tests at.
    assert configured_input_shape(model, cfg) == (800, 1333)


def test_a_simple_pyramid_serves_segmentation_heads():
    """UPerNet reads a pyramid of the last map where it read four maps of a ViT."""
    cfg = stock_config('vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py')
    vit = dict(model='deit3_small_patch16_224', num_heads=4)
    cfg.merge_from_dict(
        dict(
            model=dict(
                pretrained=None,
                backbone=dict(
                    _delete_=True,
                    type='mmsnnet.StitchedViT',
                    anchors=[dict(vit, embed_dim=16, depth=2), dict(vit, embed_dim=32, depth=4)],
                ),
                neck=dict(_delete_=True, type='mmsnnet.SimpleFPN', in_channels=32, out_channels=64, num_outs=4),
                decode_head=dict(in_channels=[64] * 4, channels=32),
                auxiliary_head=dict(in_channels=64),
            )
        )
    )
    model = build_model(Config.fromstring(cfg.pretty_text.replace("type='SyncBN'", "type='BN'"), '.py')).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96), mode='tensor').shape == (1, 150, 16, 24)
