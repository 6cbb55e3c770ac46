"""Swin Transformers as anchors: stages of other widths and sizes, and SN-Net v1's space between them."""

from types import SimpleNamespace

import pytest
import torch
from timm.layers import LayerNorm
from toys import outputs_of_all, randomise, timm_features, toy_anchor, toy_images, toy_vit_like

from mmsnnet.engine.exit_checks import wanted_channels
from mmsnnet.errors import UserError
from mmsnnet.evaluation import SharedPrefixes
from mmsnnet.models import (
    AnchorViT,
    RouteViT,
    StitchedViT,
    create_anchor,
    route_state_dict,
    solve_stitching_layers,
)
from mmsnnet.stitching import all_layers
from mmsnnet.stitching.plan import layer_places

IMAGES = toy_images(64, 96)
# Stages of 1 and 2, 2 and 2, 2 and 6 blocks; a stage doubles the width and halves the map.
DEPTHS = ((1, 2), (2, 2), (2, 6))
OUT_INDICES = (1, 7)
WINDOW = dict(two_way=False, window=2, lora_rank=2)


def anchors(**changes) -> list[dict]:
    """Swins of widths 8, 12 and 16 in their first stage."""
    return [
        toy_anchor('swin', width=width, depths=depths, patch_size=8, **changes)
        for width, depths in zip((8, 12, 16), DEPTHS, strict=True)
    ]


def stitched(**changes) -> StitchedViT:
    return randomise(StitchedViT(anchors(), **{'out_indices': OUT_INDICES, **WINDOW, **changes})).eval()


@pytest.mark.parametrize('kwargs', [{}, {'window': None}, {'window': None, 'two_way': True}], ids=str)
def test_every_route_gives_each_level_at_the_widest_anchor_s_width(kwargs):
    backbone = stitched(**kwargs)
    assert backbone.level_channels(2) == (16, 32)
    for maps in outputs_of_all(backbone, IMAGES).values():
        assert [tuple(level.shape) for level in maps] == [(2, 16, 8, 12), (2, 32, 4, 6)]
    # Neither whole patches, nor an even number of them.
    for maps in outputs_of_all(backbone, toy_images(51, 37)).values():
        assert [tuple(level.shape[2:]) for level in maps] == [(7, 5), (4, 3)]


def test_own_exits_have_the_widths_of_the_last_anchor():
    backbone = stitched(exits='own')
    for route in backbone.space:
        backbone.set_route(route)
        width = (8, 12, 16)[route.spans[-1].anchor]
        with torch.no_grad():
            assert [level.shape[1] for level in backbone(IMAGES)] == [width, 2 * width]
            assert [level.shape for level in backbone(IMAGES[:1])] == [
                level.shape for level in backbone.blank_levels((64, 96))
            ]


@torch.no_grad()
def test_levels_pass_a_norm_of_their_stage():
    """The model's own where it has one, which is after its last stage."""
    alone = randomise(AnchorViT(anchors()[1], (1, 3), final_norm=True)).eval()
    (anchor,) = alone.anchors
    weights = {name: value for name, value in anchor.state_dict().items() if not name.startswith('norm.')}
    weights |= {f'norm.{name}': value for name, value in anchor.norm[1].state_dict().items()}
    vit = toy_vit_like('swin', weights, width=12, out_type='pooled', depths=(2, 2), patch_size=8, img_size=(64, 96))
    first, last = alone(IMAGES)
    expected, _ = timm_features(vit, IMAGES, [1, 3])
    norm = LayerNorm(12)
    norm.load_state_dict(anchor.norm[0].state_dict())
    torch.testing.assert_close(first, norm(expected.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    torch.testing.assert_close(last, vit.forward_features(IMAGES).permute(0, 3, 1, 2))


@pytest.mark.parametrize('kwargs', [{}, {'window': None}, {'window': None, 'two_way': True}], ids=str)
def test_layers_start_from_least_squares_on_the_tokens_of_their_stage(kwargs):
    """Tokens of a later stage stand for more pixels: of padding, fewer of them are left out."""
    backbone = stitched(**kwargs)
    images, is_image = toy_images(64, 96, batch=6), torch.zeros(6, 64, 96, dtype=torch.bool)
    is_image[:, :33, :72] = True
    explained = solve_stitching_layers(backbone, [(images[:2], is_image[:2]), (images[2:], is_image[2:])])
    layers = all_layers(backbone.space, backbone.own_exits, backbone.out_indices)
    assert explained.keys() == {f'{layer.direction}.{layer.pair}.{layer.k}' for layer in layers}

    def tokens(anchor: int, blocks: int) -> torch.Tensor:
        with torch.no_grad():
            embedded, grid = backbone.anchors[anchor].embed(images)
            ran = backbone.anchors[anchor].run(embedded, 0, blocks, grid)
        height, width = {8: (5, 9), 4: (3, 5)}[ran.shape[1]]
        return ran[:, :height, :width].flatten(0, 2).double()

    for key in layers:
        small, large = (
            torch.cat([tokens(key.pair + of, place[of]) for place in layer_places(backbone.space, key)])
            for of in (0, 1)
        )
        source, target = (large, small) if key.direction == 'down' else (small, large)
        solution = torch.linalg.lstsq(torch.cat([source, torch.ones(len(source), 1)], dim=1), target).solution
        layer = backbone.layer(key)
        ours = torch.cat([layer.weight.T, layer.bias[None]]).double()
        assert (ours - solution).abs().max() <= 1e-4 * solution.abs().max(), key


@pytest.mark.parametrize('kwargs', [{}, {'window': None, 'two_way': True}], ids=str)
def test_one_pass_gives_what_routes_give_one_by_one(kwargs):
    backbone = stitched(**kwargs)
    expected = outputs_of_all(backbone, IMAGES)
    with torch.no_grad(), SharedPrefixes(backbone, list(backbone.space), memory_budget_mb=500) as shared:
        for route in shared.routes:
            backbone.set_route(route)
            assert all(torch.equal(*pair) for pair in zip(backbone(IMAGES), expected[route.name], strict=True)), route


def test_routes_are_exported():
    backbone = stitched(final_norm=True)
    for name, expected in outputs_of_all(backbone, IMAGES).items():
        slim = RouteViT(anchors(), name, OUT_INDICES, two_way=False, window=2, final_norm=True).eval()
        slim.load_state_dict(route_state_dict(backbone, name))
        with torch.no_grad():
            torch.testing.assert_close(slim(IMAGES), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('second', 'message'),
    [
        (toy_anchor('deit3', 4), 'differ in class: SwinTransformer and VisionTransformer'),
        (toy_anchor('swin', 4, window_size=3), r'differ in size of windows: \(2, 2\) and \(3, 3\)'),
        (toy_anchor('swin', 4, depths=(1, 1, 2), num_heads=(2, 2, 2)), 'differ in number of stages: 2 and 3'),
        (toy_anchor('swin', 4, model='swinv2_tiny_window8_256'), "cannot stitch timm's SwinTransformerV2"),
    ],
)
def test_refuses_anchors_that_differ(second, message):
    with pytest.raises(UserError, match=message):
        StitchedViT([toy_anchor('swin'), second])


def test_refuses_a_class_token_that_swins_do_not_have():
    with pytest.raises(UserError, match='needs a class token, this SwinTransformer has none'):
        create_anchor(**toy_anchor('swin'), out_type='cls_and_avg')


def test_refuses_to_make_the_final_norm_part_of_its_last_block():
    with pytest.raises(UserError, match='norm_last_block is for plain ViTs, this is a SwinTransformer'):
        create_anchor(**toy_anchor('swin', 4), norm_last_block=True)


@pytest.mark.parametrize(
    ('head', 'wanted'),
    [
        (dict(in_channels=[16, 32], in_index=[0, 1]), None),
        (dict(in_channels=32, in_index=1), None),
        (dict(in_channels=32, in_index=-1), None),
        (dict(in_channels=48, in_index=[0, 1], input_transform='resize_concat'), None),
        (dict(in_channels=32), None),
        (dict(in_channels=32, in_index=0), 16),
        (dict(in_channels=[32, 32], in_index=[0, 1]), [16, 32]),
        (dict(in_channels=64, in_index=[0, 1], input_transform='resize_concat'), [16, 32]),
        (dict(in_channels=24), [16, 32]),
        ({}, None),
    ],
    ids=str,
)
def test_heads_must_read_the_widths_of_their_levels(head, wanted):
    assert wanted_channels(SimpleNamespace(**head), (16, 32)) == wanted


def test_heads_must_read_levels_that_there_are():
    with pytest.raises(UserError, match='has in_index 2, but 2 levels leave the backbone'):
        wanted_channels(SimpleNamespace(in_channels=16, in_index=2), (16, 32))
