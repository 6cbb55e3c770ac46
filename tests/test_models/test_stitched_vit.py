"""Laws 1 and 2 on whole backbones, and that nothing but ``set_route`` ever changes what a backbone computes."""

import copy
import pickle
import tracemalloc

import mmseg.registry
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import Sequential
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor
from toys import (
    FAMILIES,
    assert_same_outputs,
    native_images,
    outputs_of_all,
    randomise,
    timm_features,
    toy_anchor,
    toy_anchors,
    toy_backbone,
    toy_images,
    toy_vit_like,
)

from mmsnnet.errors import UserError
from mmsnnet.models import Anchor, AnchorViT, StitchedViT
from mmsnnet.registry import MODELS
from mmsnnet.stitching import Layer, Record, StitchSpace


def expected_features(family: str, anchor: Anchor, images: Tensor, blocks: list[int]) -> list[Tensor]:
    vit = toy_vit_like(family, anchor.state_dict(), anchor.depth, anchor.embed_dim, num_classes=0)
    return timm_features(vit, images, blocks)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


# Law 1: an anchor's route gives that timm model's features


@torch.no_grad()
@pytest.mark.parametrize('family', FAMILIES)
def test_large_anchor_route_equals_timm(family):
    backbone, images = toy_backbone(family), native_images(family)
    backbone.set_route('l[0:4]')
    for ours, theirs in zip(
        backbone(images), expected_features(family, backbone.anchors[1], images, [1, 3]), strict=True
    ):
        assert_close(ours, theirs)


@torch.no_grad()
@pytest.mark.parametrize('family', FAMILIES)
def test_small_anchor_route_equals_timm_through_the_tapping_layers(family):
    backbone, images = toy_backbone(family, lora_rank=0), native_images(family)
    backbone.set_route('s[0:2]')
    expected = expected_features(family, backbone.anchors[0], images, [0, 1])
    for k, ours, theirs in zip((1, 2), backbone(images), expected, strict=True):
        layer = backbone.layer(Layer('up', 0, k))
        assert_close(ours, F.conv2d(theirs, layer.weight[:, :, None, None], layer.bias))


@torch.no_grad()
@pytest.mark.parametrize('family', ['deit3', 'dinov2-reg4', 'dinov3', 'beit-both'])
def test_a_stitch_equals_its_blocks_one_by_one(family):
    backbone, images = toy_backbone(family, depths=(3, 6), out_indices=(5,)), native_images(family)
    small, large = backbone.anchors
    tokens, grid = large.embed(images)
    tokens = large.run(tokens, 0, 2, grid)
    tokens = backbone.layer(Layer('down', 0, 1))(tokens)
    tokens = small.run(tokens, 1, 2, grid)
    tokens = backbone.layer(Layer('up', 0, 2))(tokens)
    tokens = large.run(tokens, 4, 6, grid)
    backbone.set_route('l[0:2]-s[1:2]-l[4:6]')
    assert torch.equal(backbone(images)[0], large.to_map(tokens, grid))


@torch.no_grad()
@pytest.mark.parametrize('family', FAMILIES)
def test_anchor_vit_equals_timm(family):
    backbone = randomise(AnchorViT(toy_anchor(family, depth=4, width=32), out_indices=(0, 2, -1))).eval()
    images = native_images(family)
    first, third, last = expected_features(family, backbone.anchors[0], images, [0, 2, 3])
    for ours, theirs in zip(backbone(images), (first, third, last), strict=True):
        assert_close(ours, theirs)
    assert backbone.level_channels(0) == ((32, 64, 64) if family == 'swin' else (32, 32, 32))


@torch.no_grad()
def test_anchor_vit_is_the_stitched_vit_s_anchor_route():
    stitched = toy_backbone()
    alone = AnchorViT(toy_anchor(depth=4, width=32), out_indices=(1, 3)).eval()
    alone.anchors[0].load_state_dict(stitched.anchors[1].state_dict())
    assert_same_outputs({'': alone(toy_images())}, {'': stitched(toy_images())})


# Law 2: every route emits every level once, in order, at the large anchor's width


@pytest.mark.parametrize(
    ('depths', 'out_indices'),
    [((2, 4), (1, 3)), ((3, 3), (0, 1, 2)), ((2, 3), (0, 2)), ((2, 3, 4), (1, 3)), ((1, 2), (1,))],
)
@pytest.mark.parametrize('two_way', [True, False])
def test_every_route_emits_maps_of_one_shape(depths, out_indices, two_way):
    backbone = toy_backbone(depths=depths, out_indices=out_indices, two_way=two_way)
    assert backbone.out_channels == 16 * len(depths)
    for outputs in outputs_of_all(backbone, toy_images(40, 70)).values():
        assert [tuple(output.shape) for output in outputs] == [(2, 16 * len(depths), 3, 5)] * len(out_indices)
        assert all(output.isfinite().all() for output in outputs)


def test_all_routes_differ():
    outputs = outputs_of_all(toy_backbone(depths=(3, 6), out_indices=(5,)), toy_images())
    assert len({output.sum().item() for (output,) in outputs.values()}) == len(outputs) == 8


def test_negative_out_indices_count_from_the_end():
    assert toy_backbone(out_indices=(-3, -1)).out_indices == (1, 3)
    assert StitchedViT(toy_anchors()).out_indices == (3,)


@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit'])
def test_any_image_size(family):
    backbone = toy_backbone(family)
    for size, grid in (((16, 16), (1, 1)), ((17, 40), (2, 3)), ((64, 32), (4, 2))):
        for outputs in outputs_of_all(backbone, toy_images(*size)).values():
            assert all(output.shape[2:] == grid for output in outputs)


def test_refuses_images_smaller_than_a_patch():
    with pytest.raises(ValueError, match='8x48 is smaller than a patch of 16x16'):
        toy_backbone()(toy_images(8, 48))


# Routes


def test_starts_at_the_large_anchor():
    assert StitchedViT(toy_anchors(depths=(2, 3, 4))).route.name == 'l[0:4]'


@pytest.mark.parametrize('key', [2, '2', 's[0:1]-l[2:4]', StitchSpace((2, 4))[2]])
def test_set_route_takes_and_returns(key):
    backbone = toy_backbone()
    assert backbone.set_route(key) is backbone.route
    assert backbone.route == backbone.space[2]


@pytest.mark.parametrize('key', [4, -1, 's[0:1]', StitchSpace((3, 6))[0]])
def test_a_refused_route_leaves_the_old_one(key):
    backbone = toy_backbone()
    backbone.set_route(2)
    plan = backbone.plan
    with pytest.raises(ValueError, match='route'):
        backbone.set_route(key)
    assert backbone.route.id == 2
    assert backbone.plan is plan


def test_forward_never_changes_the_route():
    backbone = toy_backbone()
    for mode in (True, False):
        for route in backbone.space:
            backbone.train(mode).set_route(route)
            backbone(toy_images())
            assert backbone.route is route


def test_a_budget_sets_the_best_route_within_it():
    backbone = toy_backbone()
    with pytest.raises(ValueError, match='no records to choose by'):
        backbone.set_budget(gflops=1)
    miou = [30, 50, 40, 20]
    records = [Record(r.id, r.name, r.kind, 10.0 + r.id, 1.0, {'mIoU': miou[r.id]}, 5.0 - r.id) for r in backbone.space]
    backbone.use(records)
    assert backbone.set_budget(gflops=10.5) == backbone.route == backbone.space[0]
    assert backbone.set_budget(latency_ms=3.5).id == 2
    with pytest.raises(ValueError, match=r'gflops <= 9; the nearest is s\[0:2\]'):
        backbone.set_budget(gflops=9)
    assert backbone.route.id == 2
    with pytest.raises(ValueError, match='not of this space'):
        toy_backbone(depths=(3, 6)).use(records)


def test_switching_allocates_nothing():
    backbone = toy_backbone()
    plans = []
    for route in backbone.space:
        backbone.set_route(route)
        plans.append(backbone.plan)
    tracemalloc.start()
    try:
        for _ in range(25):
            for route, plan in zip(backbone.space, plans, strict=True):
                backbone.set_route(route.id)
                assert backbone.plan is plan
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 2000


def test_one_way_has_no_layers_down():
    backbone = toy_backbone(depths=(3, 6), two_way=False)
    assert [route.kind for route in backbone.space] == ['anchor', 'anchor', 'SL', 'SL']
    assert list(backbone.up[0]) == ['1', '2', '3']
    assert len(backbone.down[0]) == 0


def test_layers_of_three_anchors():
    backbone = toy_backbone(depths=(2, 3, 4))
    assert [list(layers) for layers in backbone.up] == [['1', '2'], ['1', '2', '3']]
    assert [list(layers) for layers in backbone.down] == [['1'], ['1', '2']]
    assert backbone.up[1]['3'].weight.shape == (48, 32)
    assert backbone.down[0]['1'].weight.shape == (16, 32)


# Arguments


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'anchors': []}, 'two or more anchors.*got 0.*AnchorViT'),
        ({'anchors': toy_anchors()[:1]}, 'two or more anchors.*got 1.*AnchorViT'),
        ({'anchors': toy_anchors(depths=(4, 2))}, r'must not decrease: got \(4, 2\)'),
        ({'anchors': [toy_anchor('deit3'), toy_anchor('beit')]}, 'class: VisionTransformer and Beit'),
        ({'anchors': [None, toy_anchor()]}, "an anchor must be a dict .* timm model as 'model', got None"),
        ({'anchors': 2}, 'anchors must be a list such as .*, got 2'),
        ({'out_indices': (1, 4)}, r'out index must be .* from -4 to 3 \(blocks of the largest anchor, 0 to 3\), got 4'),
        ({'out_indices': (-5,)}, 'got -5'),
        ({'out_indices': ()}, 'out_indices is empty'),
        ({'out_indices': 3}, r'out_indices must be a list such as \[3\], got 3'),
        ({'out_indices': (1.5,)}, 'out index must be a whole number.*got 1.5'),
        ({'out_indices': (3, 1)}, r'out_indices must rise.*got \(3, 1\)'),
        ({'out_indices': (3, -1)}, r'out_indices must rise.*got \(3, -1\)'),
        ({'lora_rank': -1}, 'lora_rank must be a whole number, 0 or more .* got -1'),
        ({'lora_rank': '16'}, "lora_rank must be a whole number.*got '16'"),
        ({'lora_rank': True}, 'lora_rank must be a whole number.*got True'),
        ({'frozen_anchors': (2,)}, 'frozen_anchors must be a whole number, from 0 to 1, got 2'),
        ({'frozen_anchors': 0}, r'frozen_anchors must be a list such as \[0\], got 0'),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        StitchedViT(**{'anchors': toy_anchors(), **arguments})


@pytest.mark.parametrize('registry', [MODELS, MMENGINE_MODELS, mmseg.registry.MODELS])
@pytest.mark.parametrize('scope', ['', 'mmsnnet.'])
def test_builds_from_any_registry(registry, scope):
    stitched = registry.build({'type': f'{scope}StitchedViT', 'anchors': toy_anchors(), 'out_indices': (1, 3)})
    assert type(stitched) is StitchedViT
    assert type(registry.build({'type': f'{scope}AnchorViT', 'anchor': toy_anchor()})) is AnchorViT


def test_does_not_change_its_config():
    anchors = toy_anchors()
    expected = copy.deepcopy(anchors)
    StitchedViT(anchors)
    assert anchors == expected


# Weights


def test_mmengine_s_init_weights_leaves_timm_s():
    backbone = StitchedViT(toy_anchors())
    weights = {key: value.clone() for key, value in backbone.state_dict().items()}
    torch.manual_seed(7)
    Sequential(backbone).init_weights()
    assert all(torch.equal(value, weights[key]) for key, value in backbone.state_dict().items())


def test_anchors_load_from_checkpoints_of_baselines(tmp_path):
    baselines = [randomise(AnchorViT(anchor), seed) for seed, anchor in enumerate(toy_anchors(), start=5)]
    anchors = []
    for index, (baseline, anchor) in enumerate(zip(baselines, toy_anchors(), strict=True)):
        checkpoint = str(tmp_path / f'{index}.pth')
        torch.save({'state_dict': Sequential(baseline).state_dict()}, checkpoint)
        anchors.append({**anchor, 'init_cfg': dict(type='Pretrained', checkpoint=checkpoint, prefix='0.anchors.0.')})
    backbone = StitchedViT(anchors)
    Sequential(backbone).init_weights()
    for ours, baseline in zip(backbone.anchors, baselines, strict=True):
        theirs = baseline.anchors[0].state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in ours.state_dict().items())


def test_init_cfg_loads_a_whole_backbone(tmp_path):
    trained = toy_backbone()
    torch.save(trained.state_dict(), tmp_path / 'backbone.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    backbone = StitchedViT(toy_anchors(), (1, 3), 2, init_cfg=init_cfg).eval()
    backbone.init_weights()
    assert_same_outputs(outputs_of_all(backbone, toy_images()), outputs_of_all(trained, toy_images()))


@pytest.mark.parametrize('family', FAMILIES)
def test_state_dict_round_trip(tmp_path, family):
    """Law 9: no pickled code in it."""
    backbone, images = toy_backbone(family), native_images(family)
    torch.save(backbone.state_dict(), tmp_path / 'backbone.pth')
    fresh = StitchedViT(toy_anchors(family), (1, 3), 2).eval()
    fresh.load_state_dict(torch.load(tmp_path / 'backbone.pth', weights_only=True))
    assert_same_outputs(outputs_of_all(fresh, images), outputs_of_all(backbone, images))


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda backbone: pickle.loads(pickle.dumps(backbone))])
@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit'])
def test_copies_compute_the_same_and_share_nothing(family, copied):
    backbone, images = toy_backbone(family), native_images(family)
    backbone.set_route(2)
    copy_ = copied(backbone)
    assert copy_.route == backbone.route
    expected = outputs_of_all(backbone, images)
    assert_same_outputs(outputs_of_all(copy_, images), expected)
    randomise(copy_, seed=9)
    copy_.set_route(0)
    assert backbone.route.id != 0
    assert_same_outputs(outputs_of_all(backbone, images), expected)
