"""Law 8: an exported route gives the same output as the supernet running that route."""

import pytest
import torch
from toys import FAMILIES, native_images, toy_anchors, toy_backbone, toy_images

from mmsnnet.models import RouteViT, StitchedViT, route_state_dict

DEPTHS = {'depths': (3, 6), 'out_indices': (1, 3, 5)}


def export(backbone: StitchedViT, anchors: list[dict], route: str, **kwargs) -> RouteViT:
    exported = RouteViT(anchors, route, backbone.out_indices, **kwargs)
    exported.load_state_dict(route_state_dict(backbone, route))
    return exported.eval()


@pytest.mark.parametrize('family', FAMILIES)
@torch.no_grad()
def test_every_exported_route_equals_the_supernet_s(family):
    backbone, anchors = toy_backbone(family, **DEPTHS), toy_anchors(family, DEPTHS['depths'])
    images = native_images(family)
    for route in backbone.space:
        backbone.set_route(route)
        outputs = export(backbone, anchors, route.name)(images)
        torch.testing.assert_close(outputs, backbone(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('lora_rank', [0, 2])
@torch.no_grad()
def test_with_and_without_low_rank_updates_and_at_another_size(lora_rank):
    backbone, anchors = toy_backbone(lora_rank=lora_rank), toy_anchors()
    images = toy_images(48, 80)
    for route in backbone.space:
        backbone.set_route(route)
        outputs = export(backbone, anchors, route.name)(images)
        torch.testing.assert_close(outputs, backbone(images), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_three_anchors():
    depths = (2, 3, 4)
    backbone, anchors = toy_backbone(depths=depths, out_indices=(1, 3)), toy_anchors(depths=depths)
    for route in backbone.space:
        backbone.set_route(route)
        outputs = export(backbone, anchors, route.name)(toy_images())
        torch.testing.assert_close(outputs, backbone(toy_images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit-shared'])
def test_has_the_parameters_that_the_route_uses_and_no_others(family):
    backbone = toy_backbone(family, **DEPTHS)
    for route in backbone.space:
        exported = export(backbone, toy_anchors(family, DEPTHS['depths']), route.name).train()
        sum(level.square().mean() for level in exported(native_images(family))).backward()
        unused = [name for name, parameter in exported.named_parameters() if parameter.grad is None]
        assert not unused, route


def test_folding_is_the_layer_s_map():
    backbone = toy_backbone()
    layer = backbone.up[0]['1']
    tokens = torch.randn(2, 5, 16)
    folded = torch.nn.functional.linear(tokens, layer.folded_weight(), layer.bias)
    torch.testing.assert_close(folded, layer(tokens))
    assert not torch.allclose(layer.folded_weight(), layer.weight)


def test_refuses_an_unknown_route():
    with pytest.raises(ValueError, match="unknown route 's\\[0:9\\]'"):
        RouteViT(toy_anchors(), 's[0:9]')
