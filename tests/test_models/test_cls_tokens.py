"""With ``output_cls_token``, the class token leaves every route beside the map, through the same layers."""

import pytest
import torch
from torch import Tensor
from toys import (
    FAMILIES,
    native_images,
    outputs_of_all,
    randomise,
    toy_anchor,
    toy_anchors,
    toy_backbone,
    toy_images,
    toy_vit_like,
)

from mmsnnet.errors import UserError
from mmsnnet.evaluation import SharedPrefixes
from mmsnnet.models import AnchorViT, ExitMaps, RouteViT, StitchedViT, route_costs, route_state_dict
from mmsnnet.stitching import Layer, StitchSpace
from mmsnnet.stitching.plan import tapped_block

WITHOUT_CLASS = ('siglip', 'sam', 'swin')
WITH_CLASS = [family for family in FAMILIES if family not in WITHOUT_CLASS]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def flat(levels: tuple[list[Tensor], ...]) -> list[Tensor]:
    return [tensor for level in levels for tensor in level]


def assert_equal(first: tuple, second: tuple) -> None:
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(flat(first), flat(second), strict=True))


@pytest.mark.parametrize('family', WITH_CLASS)
def test_an_anchor_gives_timm_s_maps_and_class_tokens(family):
    backbone, images = toy_backbone(family, output_cls_token=True), native_images(family)
    vit = toy_vit_like(family, backbone.anchors[1].state_dict(), 4, 32, num_classes=0)
    theirs = vit.forward_intermediates(images, [1, 3], norm=False, intermediates_only=True, return_prefix_tokens=True)
    for (map_, cls_token), (their_map, prefix) in zip(backbone(images), theirs, strict=True):
        torch.testing.assert_close(map_, their_map, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(cls_token, prefix[:, 0], rtol=1e-5, atol=1e-5)


def test_tokens_pass_the_final_norm():
    normed = toy_backbone(output_cls_token=True, final_norm=True)
    plain = toy_backbone(output_cls_token=True)
    plain.load_state_dict(normed.state_dict(), strict=False)
    for (_, ours), (_, before) in zip(normed(toy_images()), plain(toy_images()), strict=True):
        torch.testing.assert_close(ours, normed.anchors[1].norm(before))


@pytest.mark.parametrize('family', WITH_CLASS)
def test_maps_of_every_route_are_those_without_the_tokens(family):
    with_tokens, without = (toy_backbone(family, output_cls_token=flag) for flag in (True, False))
    images = native_images(family)
    maps = outputs_of_all(without, images)
    for name, levels in outputs_of_all(with_tokens, images).items():
        for (map_, cls_token), alone in zip(levels, maps[name], strict=True):
            assert torch.equal(map_, alone)
            assert cls_token.shape == (2, 32)


def test_tokens_pass_the_stitching_layers_that_maps_pass():
    backbone, images = toy_backbone(output_cls_token=True), toy_images()
    small, large = backbone.anchors
    tokens, grid = small.embed(images)
    tokens = small.run(tokens, 0, 1, grid)
    up, out = (backbone.layer(Layer('up', 0, k)) for k in (1, 2))
    backbone.set_route('s[0:1]-l[2:4]')
    switched = up(tokens)
    expected = [switched, large.run(switched, 2, 4, grid)]
    for (_, cls_token), tokens_there in zip(backbone(images), expected, strict=True):
        assert torch.equal(cls_token, tokens_there[:, 0])
    backbone.set_route('s[0:2]')
    expected = [up(tokens), out(small.run(tokens, 1, 2, grid))]
    for (_, cls_token), tokens_there in zip(backbone(images), expected, strict=True):
        assert torch.equal(cls_token, tokens_there[:, 0])


def test_levels_of_the_released_depth_models():
    """Blocks 4, 11, 17 and 23 of DeiT3-L correspond to 2, 5, 8 and 11 of DeiT3-S, and of B."""
    space = StitchSpace((12, 24))
    assert [tapped_block(space, 0, block) for block in (4, 11, 17, 23)] == [2, 5, 8, 11]


def test_own_exits_give_tokens_of_the_width_of_the_exit():
    backbone = toy_backbone(exits='own', output_cls_token=True)
    for name, levels in outputs_of_all(backbone, toy_images()).items():
        width = 16 if name.rpartition('-')[2].startswith('s') else 32
        assert isinstance(levels, ExitMaps)
        assert [[map_.shape[1], cls_token.shape[1]] for map_, cls_token in levels] == [[width, width]] * 2


@pytest.mark.parametrize('exits', ['shared', 'own'])
def test_routes_that_share_work_give_what_each_gives_alone(exits):
    backbone = toy_backbone(depths=(3, 6), out_indices=(1, 3, 5), exits=exits, output_cls_token=True)
    expected = outputs_of_all(backbone, toy_images())
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        for route in sharing.visit():
            assert_equal(backbone(toy_images()), expected[route.name])
    images = toy_images()
    with SharedPrefixes(backbone, list(backbone.space), route_batch=4) as sharing:
        for route in sharing.visit():
            for ours, theirs in zip(flat(backbone(images)), flat(expected[route.name]), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('exits', ['shared', 'own'])
def test_slim_routes_give_the_tokens_too(exits):
    backbone, images = toy_backbone(exits=exits, output_cls_token=True), toy_images()
    for route in backbone.space:
        backbone.set_route(route)
        slim = RouteViT(toy_anchors(), route.name, (1, 3), exits=exits, output_cls_token=True).eval()
        slim.load_state_dict(route_state_dict(backbone, route))
        assert all(isinstance(level, list) for level in slim(images))
        for ours, theirs in zip(flat(slim(images)), flat(backbone(images)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


class TokenReader(torch.nn.Module):
    """A model whose head reads only the class token of the first level."""

    def __init__(self, backbone: StitchedViT) -> None:
        super().__init__()
        self.backbone, self.head = backbone, torch.nn.Linear(32, 1)

    def forward(self, images: Tensor, samples: object = None, mode: str = 'tensor') -> Tensor:
        return self.head(self.backbone(images)[0][1])


def test_costs_stop_at_the_last_level_of_which_a_head_reads_map_or_token():
    backbone = toy_backbone(output_cls_token=True)
    backbone_only = route_costs(toy_backbone(), (32, 48))
    assert [cost.flops for cost in route_costs(backbone, (32, 48))] == [cost.flops for cost in backbone_only]
    first_level = route_costs(toy_backbone(out_indices=(1,)), (32, 48))
    costs = route_costs(TokenReader(backbone), (32, 48))
    assert [cost.flops - 32 for cost in costs] == [cost.flops for cost in first_level]


@pytest.mark.parametrize('family', WITHOUT_CLASS)
def test_refuses_anchors_without_a_class_token(family):
    with pytest.raises(UserError, match='has no class token: leave it out, and take a head that reads maps') as raised:
        toy_backbone(family, output_cls_token=True)
    assert '\n' not in str(raised.value)


def test_refuses_tokens_beside_vectors():
    with pytest.raises(UserError, match="leave it out, or out_type='pooled'"):
        AnchorViT(toy_anchor(), out_type='pooled', output_cls_token=True)


def test_a_fresh_anchor_alone_gives_pairs():
    alone = randomise(AnchorViT(toy_anchor(), out_indices=(0, 1), output_cls_token=True)).eval()
    assert [[tuple(tensor.shape) for tensor in level] for level in alone(toy_images())] == [
        [(2, 16, 2, 3), (2, 16)]
    ] * 2
