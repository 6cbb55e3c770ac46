"""Law 5: the released code's weights, converted, give the released code's outputs on all routes."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import DATA

from mmsnnet.convert import convert_backbone, convert_checkpoint, convert_official_backbone, convert_segmentor
from mmsnnet.models import StitchedViT, solve_stitching_layers

TOLERANCE = 1e-5


class Golden:
    """A released backbone with tiny anchors: weights, an input, its outputs on every stitch, least squares."""

    def __init__(self, path: Path) -> None:
        self.arrays = dict(np.load(path))
        self.meta = json.loads(bytes(self.arrays['meta']))
        self.state_dict = {
            key.removeprefix('param/'): torch.from_numpy(value)
            for key, value in self.arrays.items()
            if key.startswith('param/')
        }

    def build(self) -> StitchedViT:
        sizes = zip(self.meta['dims'], self.meta['depths'], self.meta['heads'], strict=True)
        beit = {
            'model': 'beit_base_patch16_224',
            'img_size': self.meta['img'],
            'use_abs_pos_emb': True,
            'use_rel_pos_bias': True,
        }
        return StitchedViT(
            [{**beit, 'embed_dim': dim, 'depth': depth, 'num_heads': heads} for dim, depth, heads in sizes],
            self.meta['out_indices'],
            lora_rank=0 if self.meta['v1'] else self.meta['lora_r'],
            two_way=not self.meta['v1'],
        ).eval()

    def converted(self) -> StitchedViT:
        backbone = self.build()
        backbone.load_state_dict(convert_official_backbone(self.state_dict))
        return backbone

    def tensor(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key])


@pytest.fixture(scope='module')
def tiny() -> Golden:
    return Golden(DATA / 'official_tiny.npz')


@pytest.fixture
def load_golden(shared_file: Callable[[str], Path]) -> Callable[[str], Golden]:
    """The small one comes with the tests, the others from the folder ``shared``."""

    def load(name: str) -> Golden:
        path = DATA / f'{name}.npz'
        return Golden(path if path.is_file() else shared_file(f'golden/{name}.npz'))

    return load


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


GOLDEN = pytest.mark.parametrize(
    ('name', 'count'),
    [('official_tiny', 134), ('official_s12_l24', 134), ('official_s12_b12', 134), ('official_v1_s12_l24', 13)],
)


@GOLDEN
@torch.no_grad()
def test_all_routes_give_the_released_code_s_outputs(load_golden, name, count):
    golden = load_golden(name)
    backbone = golden.converted()
    assert len(backbone.space) == count
    for route in backbone.space:
        backbone.set_route(route)
        official_id = route.id if route.id < 13 else route.id + 1
        for level, output in enumerate(backbone(golden.tensor('input'))):
            assert relative_error(output, golden.tensor(f'out/{official_id}/{level}')) < TOLERANCE, route


@GOLDEN
def test_least_squares_gives_the_released_code_s_solutions(load_golden, name, count):
    golden = load_golden(name)
    backbone = golden.converted()
    solve_stitching_layers(backbone, golden.tensor('init_images').split(2))
    keys = [key for key in golden.arrays if key.startswith('init/')]
    assert keys
    for key in keys:
        _, direction, index, parameter = key.split('/')
        layer = (backbone.up, backbone.down)[int(direction)][0][str(int(index) + 1)]
        assert relative_error(layer.get_parameter(parameter), golden.tensor(key)) < TOLERANCE, key


# Keys


def test_every_key_is_mapped_or_dropped_with_a_reason(tiny):
    conversion = convert_backbone(tiny.state_dict)
    assert not conversion.mapped.keys() & conversion.dropped.keys()
    assert conversion.mapped.keys() | conversion.dropped.keys() == tiny.state_dict.keys()
    assert all(conversion.dropped.values())
    news = [new for news in conversion.mapped.values() for new in news]
    assert len(news) == len(set(news))
    assert set(news) == conversion.state_dict.keys() == tiny.build().state_dict().keys()


def test_only_what_is_not_needed_is_dropped(tiny):
    dropped = convert_backbone(tiny.state_dict).dropped
    assert {key.split('.')[-1] for key in dropped if '.attn.' in key} <= {'relative_position_index'}
    assert all('.attn.' in key or key.split('.', 2)[2] in ('ln1.weight', 'ln1.bias') for key in dropped)


def test_low_rank_updates_are_not_merged(tiny):
    converted = convert_official_backbone(tiny.state_dict)
    for index in range(12):
        for name in ('weight', 'bias', 'lora_A', 'lora_B'):
            official = tiny.state_dict[f'stitch_layers.0.{index}.transform.{name}']
            assert torch.equal(converted[f'up.0.{index + 1}.{name.lower()}'], official)
    assert any(value.any() for key, value in converted.items() if key.endswith('lora_b'))


def test_key_biases_go_and_the_class_token_gets_an_empty_position(tiny):
    converted = convert_official_backbone(tiny.state_dict)
    query, _, value = tiny.state_dict['anchors.0.layers.0.attn.qkv.bias'].chunk(3)
    assert torch.equal(converted['anchors.0.blocks.0.attn.q_bias'], query)
    assert torch.equal(converted['anchors.0.blocks.0.attn.v_bias'], value)
    position = converted['anchors.1.pos_embed']
    assert not position[:, 0].any()
    assert torch.equal(position[:, 1:], tiny.state_dict['anchors.1.pos_embed'])


def test_conversion_does_not_change_its_input(tiny):
    before = {key: value.clone() for key, value in tiny.state_dict.items()}
    convert_official_backbone(tiny.state_dict)
    assert tiny.state_dict.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict.items())


@pytest.mark.parametrize(
    'key',
    [
        'anchors.0.layers.0.attn.extra',
        'anchors.0.norm.weight',
        'stitch_layers.2.0.transform.weight',
        'stitch_layers.0.0.transform.scale',
        'backbone.anchors.0.cls_token',
        'xanchors.0.cls_token',
        'anchors.0.cls_token.x',
    ],
)
def test_refuses_unknown_keys(tiny, key):
    with pytest.raises(ValueError, match=f"1 keys are not of a released SN-Net backbone, e.g. '{key}'"):
        convert_official_backbone({**tiny.state_dict, key: torch.zeros(1)})


# Segmentors and checkpoints


@pytest.fixture
def segmentor(tiny) -> dict[str, torch.Tensor]:
    backbone = {f'backbone.{key}': value for key, value in tiny.state_dict.items()}
    heads = {'decode_head.conv_seg.weight': torch.ones(3, 2), 'auxiliary_head.0.conv_seg.bias': torch.ones(3)}
    return {**backbone, **heads}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_segmentor_keeps_its_heads(tiny, segmentor):
    conversion = convert_segmentor(segmentor)
    expected = {f'backbone.{key}': value for key, value in convert_official_backbone(tiny.state_dict).items()}
    heads = {key: value for key, value in segmentor.items() if 'head' in key}
    assert len(heads) == 2
    assert_equal(conversion.state_dict, {**expected, **heads})
    assert conversion.mapped.keys() | conversion.dropped.keys() == segmentor.keys()
    assert not conversion.mapped.keys() & conversion.dropped.keys()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda weights: {**weights, 'neck.weight': torch.ones(1)},
            "'neck.weight' is not of a released SN-Net segmentor",
        ),
        (lambda weights: {**weights, 'backbone.x': torch.ones(1)}, "not of a released SN-Net backbone, e.g. 'x'"),
        (lambda weights: {'decode_head.x': torch.ones(1)}, "no key starts with 'backbone.', e.g. 'decode_head.x'"),
        (lambda weights: {}, "no key starts with 'backbone.', e.g. 'none at all'"),
    ],
)
def test_segmentor_refuses(segmentor, change, message):
    with pytest.raises(ValueError, match=message):
        convert_segmentor(change(segmentor))


def test_checkpoint_of_segmentor_or_backbone(tiny, segmentor):
    backbone, whole = convert_backbone(tiny.state_dict), convert_segmentor(segmentor)
    assert_equal(convert_checkpoint(tiny.state_dict).state_dict, backbone.state_dict)
    assert_equal(convert_checkpoint({'state_dict': tiny.state_dict, 'meta': {}}).state_dict, backbone.state_dict)
    assert_equal(convert_checkpoint({'state_dict': segmentor, 'optimizer': {}}).state_dict, whole.state_dict)
