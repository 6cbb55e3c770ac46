"""Classification: an anchor's route gives the logits of the timm model, with heads that start from its classifier."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn
from toys import (
    FAMILIES,
    native_images,
    outputs_of_all,
    randomise,
    toy_anchor,
    toy_anchors,
    toy_backbone,
    toy_vit,
    toy_vit_like,
)

from mmsnnet.building import build_model
from mmsnnet.engine.exit_checks import check_exits, check_finished
from mmsnnet.errors import UserError
from mmsnnet.models import RouteViT, StitchedViT, TimmClassifier, find_backbone, route_costs, route_state_dict
from mmsnnet.models.flop_counter import count_flops

POOLED = dict(exits='own', out_type='pooled', out_indices=(-1,))
# Its output is a map of a neck; it has no classifier.
CLASSIFIERS = [family for family in FAMILIES if family != 'sam']
# Where ours sums the bias of attention in another order than timm.
ROUNDED = [family for family in CLASSIFIERS if family.startswith('beit') and family != 'beit-shared']


def timm_classifiers(family: str, folder: Path) -> tuple[list[nn.Module], list[dict], list[dict]]:
    """timm's models with random weights; an anchor and a head for each that start from a file of them."""
    models, anchors, heads = [], [], []
    for index, anchor in enumerate(toy_anchors(family)):
        file = str(folder / f'{index}.pth')
        models.append(randomise(toy_vit(family, (2, 4)[index], anchor['embed_dim'], num_classes=1000), index).eval())
        width = models[-1].num_features
        torch.save(models[-1].state_dict(), file)
        anchors.append(dict(anchor, init_cfg=dict(type='TimmPretrained', file=file)))
        init_cfg = dict(anchor, type='TimmClassifier', file=file)
        heads.append(dict(type='LinearClsHead', in_channels=width, num_classes=1000, init_cfg=init_cfg))
    return models, anchors, heads


def classifier(backbone: dict, head: dict) -> nn.Module:
    """An MMPretrain classifier that has loaded what its config names."""
    cfg = dict(type='ImageClassifier', backbone=dict(backbone, out_type='pooled'), head=head)
    model = build_model(Config(dict(default_scope='mmpretrain', model=cfg)))
    model.init_weights()
    return model.eval()


@pytest.mark.parametrize('family', ['deit3', 'clip', 'beit-shared', 'swin'])
def test_a_pretrained_pair_gives_timm_s_logits_before_any_training(family, tmp_path):
    models, anchors, heads = timm_classifiers(family, tmp_path)
    stitched = classifier(dict(type='StitchedViT', anchors=anchors, exits='own'), dict(type='PerExit', heads=heads))
    images = native_images(family)
    for index, model in enumerate(models):
        find_backbone(stitched).set_route(index)
        alone = classifier(dict(type='AnchorViT', anchor=anchors[index]), heads[index])
        with torch.no_grad():
            expected = model(images)
            assert torch.equal(stitched(images), expected)
            assert torch.equal(alone(images), expected)


@pytest.mark.parametrize('family', CLASSIFIERS)
def test_vectors_are_what_timm_s_classifiers_read(family):
    backbone = toy_backbone(family, **POOLED)
    images = native_images(family)
    for index in range(2):
        anchor = backbone.anchors[index]
        vit = toy_vit_like(family, anchor.state_dict(), anchor.depth, anchor.embed_dim, out_type='pooled')
        backbone.set_route(index)
        with torch.no_grad():
            ((vector,), expected) = backbone(images), vit.forward_head(vit.forward_features(images), pre_logits=True)
        assert vector.shape == (2, backbone.out_channels)
        if family in ROUNDED:
            torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(vector, expected)


def test_class_token_and_mean_of_patches_side_by_side():
    backbone = toy_backbone('dinov2-reg4', **{**POOLED, 'out_type': 'cls_and_avg'})
    images = native_images('dinov2-reg4')
    anchor = backbone.anchors[1]
    with torch.no_grad():
        tokens = anchor.norm(anchor.run(*[anchor.embed(images)[0], 0, anchor.depth, (2, 3)]))
        (vector,) = backbone(images)
    assert torch.equal(vector, torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1))
    assert backbone.out_channels == vector.shape[1] == 64


@pytest.mark.parametrize('family', ['deit3', 'siglip', 'dinov3', 'beit-shared'])
def test_every_exported_route_gives_the_supernet_s_vector(family):
    backbone = toy_backbone(family, lora_rank=0, **POOLED)
    images = native_images(family)
    outputs = outputs_of_all(backbone, images)
    costs = route_costs(backbone, tuple(images.shape[2:]))
    for route in backbone.space:
        slim = RouteViT(toy_anchors(family), route.name, **POOLED).eval()
        slim.load_state_dict(route_state_dict(backbone, route.id))
        with torch.no_grad():
            torch.testing.assert_close(slim(images), outputs[route.name], rtol=1e-5, atol=1e-5)
        assert costs[route.id].params == sum(parameter.numel() for parameter in slim.parameters())
        assert costs[route.id].flops == count_flops(slim, slim, images[:1])


def test_exact_heads_may_start_from_timm_s_classifiers(tmp_path):
    models, anchors, heads = timm_classifiers('deit3', tmp_path)
    backbone = dict(type='StitchedViT', anchors=anchors, exits='own', exact='adapters')
    model = classifier(backbone, dict(type='PerExit', heads=heads, exact=True))
    check_exits(model)
    check_finished(model)
    for index in range(2):
        for head in (model.head.anchors[index], model.head.tuned[str(index)]):
            assert torch.equal(head.fc.weight, models[index].head.weight)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(out_type='vector'), "out_type must be one of .*, got 'vector'"),
        (dict(out_type='pooled', out_indices=(1, 3)), 'gives a vector after the last block: leave out out_indices'),
        (dict(out_type='cls_and_avg', family='siglip'), 'needs a class token, this VisionTransformer has none'),
        (dict(out_type='pooled', family='sam'), 'VisionTransformerSAM pools its tokens in a way that is not known'),
    ],
)
def test_refuses_what_gives_no_vector(changes, message):
    family, changes = changes.get('family', 'deit3'), {k: v for k, v in changes.items() if k != 'family'}
    with pytest.raises(UserError, match=message):
        StitchedViT(toy_anchors(family), exits='own', **changes)


def test_refuses_classifiers_that_do_not_fit_a_head(tmp_path):
    _, anchors, heads = timm_classifiers('deit3', tmp_path)
    backbone = dict(type='AnchorViT', anchor=anchors[0])
    with pytest.raises(UserError, match=r'is for \(classes, channels\) \(1000, 16\), the head for \(7, 16\)'):
        classifier(backbone, dict(heads[0], num_classes=7))
    with pytest.raises(FileNotFoundError, match='no weight file'):
        classifier(backbone, dict(heads[0], init_cfg=dict(heads[0]['init_cfg'], file='none.pth')))
    # A file of 1000 classes.
    with pytest.raises(UserError, match=r'timm cannot create anchor .*size mismatch'):
        classifier(backbone, dict(heads[0], num_classes=7, init_cfg=dict(heads[0]['init_cfg'], num_classes=7)))
    torch.save(toy_vit('dinov3').state_dict(), tmp_path / 'dinov3.pth')
    with pytest.raises(UserError, match="'vit_small_patch16_dinov3' has no classifier"):
        TimmClassifier(**toy_anchor('dinov3'), file=str(tmp_path / 'dinov3.pth'))(nn.Linear(16, 5))


def test_a_classifier_for_classes_of_one_s_own_is_that_of_the_file(tmp_path):
    """timm would take a random one for other classes than the thousand that it knows of."""
    vit = randomise(toy_vit('deit3', num_classes=7))
    torch.save(vit.state_dict(), tmp_path / 'own.pth')
    linear = nn.Linear(16, 7)
    TimmClassifier(**toy_anchor('deit3'), num_classes=7, file=str(tmp_path / 'own.pth'))(linear)
    assert torch.equal(linear.weight, vit.head.weight)


def test_routes_of_a_window_are_exported():
    window = dict(POOLED, depths=(3, 3), two_way=False, window=2)
    backbone = toy_backbone(**window)
    outputs = outputs_of_all(backbone, native_images('deit3'))
    assert len(outputs) == 2 + 7
    for route in backbone.space:
        slim = RouteViT(toy_anchors(depths=(3, 3)), route.name, two_way=False, window=2, **POOLED).eval()
        slim.load_state_dict(route_state_dict(backbone, route.id))
        with torch.no_grad():
            torch.testing.assert_close(slim(native_images('deit3')), outputs[route.name], rtol=1e-5, atol=1e-5)
