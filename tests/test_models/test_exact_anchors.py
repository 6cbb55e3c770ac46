"""Law 11 on backbones: with own exits and exact anchors, an anchor's route is that anchor alone, bit for bit."""

import copy

import pytest
import torch
from toys import FAMILIES, assert_same_outputs, native_images, outputs_of_all, randomise, toy_anchors, toy_backbone

from mmsnnet.errors import UserError
from mmsnnet.evaluation import SharedPrefixes
from mmsnnet.models import AnchorViT, ExitMaps, RouteViT, StitchedViT, route_costs, route_state_dict
from mmsnnet.models.flop_counter import count_flops
from mmsnnet.models.tuning import WAYS, folded_updates
from mmsnnet.stitching import SHARED, Exit

DEPTHS = {'depths': (3, 6), 'out_indices': (1, 3, 5)}
OWN = 'l[0:2]-s[1:3]'
# Adapters reach into the layers of each family; copies are blocks like any.
PAIRS = [*((family, 'adapters') for family in FAMILIES), *((name, 'copies') for name in ('deit3', 'beit-both', 'sam'))]
# Families that differ in the matrices of their blocks: one for queries, keys and values or three, gates, windows.
EXPORTED = [
    *((name, 'adapters') for name in ('deit3', 'dinov3', 'eva02', 'rope-mixed', 'beit-both', 'sam')),
    *PAIRS[-3:],
]
EXACT = dict(exits='own', exact='adapters', adapter_rank=3)


def anchor_alone(backbone: StitchedViT, family: str, index: int, **kwargs) -> AnchorViT:
    """The finished model that an anchor was."""
    depths, out_indices = ((2, 4), (0, 1)) if index == 0 else ((2, 4), (1, 3))
    alone = AnchorViT(toy_anchors(family, depths)[index], out_indices, **kwargs)
    alone.load_state_dict({f'anchors.0.{name}': value for name, value in backbone.anchors[index].state_dict().items()})
    return alone.eval()


def trained_a_step(backbone: StitchedViT, images: torch.Tensor, lr: float = 0.1) -> None:
    """One step of every route with a switch, by an optimizer of all parameters, with weight decay."""
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=lr, weight_decay=0.1)
    backbone.train()
    for route in backbone.space:
        if route.kind != 'anchor':
            backbone.set_route(route)
            optimizer.zero_grad()
            sum(level.square().mean() for level in backbone(images)).backward()
            optimizer.step()
    backbone.eval()


@pytest.mark.parametrize(('family', 'way'), PAIRS)
def test_anchor_routes_are_the_anchors_before_and_after_training(family, way):
    backbone = toy_backbone(family, exits='own', exact=way)
    images = native_images(family)
    before = outputs_of_all(backbone, images)
    trained_a_step(backbone, images)
    after = outputs_of_all(backbone, images)
    for index in range(2):
        name = backbone.space[index].name
        with torch.no_grad():
            expected = anchor_alone(backbone, family, index)(images)
        for outputs in (before[name], after[name]):
            assert all(torch.equal(mine, its) for mine, its in zip(outputs, expected, strict=True))
    for route in list(backbone.space)[2:]:
        assert not all(torch.equal(*pair) for pair in zip(before[route.name], after[route.name], strict=True)), route


@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit', 'eva02', 'sam'])
def test_fresh_adapters_change_nothing(family):
    plain = toy_backbone(family, exits='own')
    adapted = toy_backbone(family, exits='own', exact='adapters')
    fresh = StitchedViT(toy_anchors(family), (1, 3), 2, exits='own', exact='adapters').state_dict()
    weights = plain.state_dict() | {name: value for name, value in fresh.items() if name.startswith('tunings.')}
    adapted.load_state_dict(weights)
    images = native_images(family)
    expected, outputs = outputs_of_all(plain, images), outputs_of_all(adapted, images)
    for name in expected:
        torch.testing.assert_close(tuple(outputs[name]), tuple(expected[name]), rtol=1e-6, atol=1e-6)


def test_copies_start_from_the_anchors_that_init_weights_loads(tmp_path):
    anchors = toy_anchors()
    for index, anchor in enumerate(anchors):
        alone = randomise(AnchorViT(anchor, (1,)), seed=index + 5)
        torch.save(alone.state_dict(), tmp_path / f'{index}.pth')
        anchor['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / f'{index}.pth'), prefix='anchors.0.')
    backbone = StitchedViT(anchors, (1, 3), exits='own', exact='copies', own_tunings=[OWN.replace('3', '2')])
    backbone.init_weights()
    for tuning in backbone.tunings.values():
        for anchor, stand_ins in zip(backbone.anchors, tuning.stand_ins.values(), strict=True):
            for index, copied in stand_ins.items():
                for name, value in anchor.blocks[int(index)].state_dict().items():
                    assert torch.equal(copied.state_dict()[name], value)


@pytest.mark.parametrize('way', WAYS)
def test_only_tunings_and_stitching_layers_train(way):
    backbone = toy_backbone(exits='own', exact=way)
    trained = {name.split('.')[0] for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained == {'tunings', 'up', 'down'}
    assert not any(module.training for module in backbone.train().anchors.modules() if module is not backbone.anchors)


@pytest.mark.parametrize('way', WAYS)
def test_drop_path_and_dropout_of_anchors_are_for_what_trains(way):
    anchors = [dict(anchor, drop_path_rate=0.5, attn_drop_rate=0.5) for anchor in toy_anchors()]
    backbone = randomise(StitchedViT(anchors, (1, 3), exits='own', exact=way)).train()
    for route in backbone.space:
        backbone.set_route(route)
        (first, _), (second, _) = (backbone(native_images('deit3')) for _ in range(2))
        assert torch.equal(first, second) is (route.kind == 'anchor'), route


@pytest.mark.parametrize('way', WAYS)
def test_gradients_are_those_of_the_weights_that_run(way):
    """Training (factors of the update apart) and evaluation (their product in the weight) are one function."""
    backbone = toy_backbone(exits='own', exact=way)
    images = native_images('deit3')
    for route in backbone.space:
        backbone.set_route(route)
        with torch.no_grad():
            evaluated = backbone(images)
        torch.testing.assert_close(tuple(backbone(images)), tuple(evaluated), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('family', 'way'), EXPORTED)
@torch.no_grad()
def test_every_exported_route_equals_the_supernet_s(family, way):
    exact = dict(exits='own', exact=way, own_tunings=[OWN])
    backbone = toy_backbone(family, **DEPTHS, **exact)
    images = native_images(family)
    for route in backbone.space:
        backbone.set_route(route)
        slim = RouteViT(toy_anchors(family, DEPTHS['depths']), route.name, backbone.out_indices, exits='own')
        slim.load_state_dict(route_state_dict(backbone, route))
        outputs = slim.eval()(images)
        torch.testing.assert_close(outputs, tuple(backbone(images)), rtol=1e-5, atol=1e-5)
        if route.kind == 'anchor':
            assert all(torch.equal(*pair) for pair in zip(outputs, backbone(images), strict=True))


@pytest.mark.parametrize('route_batch', [1, 4])
def test_one_pass_equals_route_by_route(route_batch):
    backbone = toy_backbone(**DEPTHS, **EXACT, own_tunings=[OWN])
    images = native_images('deit3')
    expected = outputs_of_all(backbone, images)
    with torch.no_grad(), SharedPrefixes(backbone, list(backbone.space), route_batch=route_batch) as sharing:
        outputs, exits = {}, {}
        for route in sharing.visit():
            maps = backbone(images)
            outputs[route.name], exits[route.name] = tuple(level.clone() for level in maps), maps.exit
    if route_batch == 1:
        assert_same_outputs(outputs, {name: tuple(levels) for name, levels in expected.items()})
    for name, levels in expected.items():
        torch.testing.assert_close(outputs[name], tuple(levels), rtol=1e-5, atol=1e-5)
        assert exits[name] == levels.exit


def test_folded_updates_change_no_output():
    backbone = toy_backbone(exits='own', exact='adapters', own_tunings=['s[0:1]-l[2:4]'])
    before = outputs_of_all(backbone, native_images('deit3'))
    with folded_updates(backbone):
        assert_same_outputs(outputs_of_all(backbone, native_images('deit3')), before)


def test_maps_carry_their_exit_and_its_width():
    backbone = toy_backbone(**DEPTHS, **EXACT, own_tunings=[OWN])
    expected = {
        's[0:3]': Exit(0),
        'l[0:6]': Exit(1),
        's[0:1]-l[2:6]': Exit(1, SHARED),
        'l[0:4]-s[2:3]': Exit(0, SHARED),
        OWN: Exit(0, OWN),
    }
    for name, exit_ in expected.items():
        backbone.set_route(name)
        maps = backbone(native_images('deit3'))
        assert isinstance(maps, ExitMaps)
        assert maps.exit == exit_
        assert {level.shape[1] for level in maps} == {(16, 32)[exit_.anchor]} == {backbone.out_channels}


def test_training_one_own_tuning_changes_no_other_route_by_a_bit():
    backbone = toy_backbone(**DEPTHS, **EXACT, own_tunings=[OWN, 's[0:1]-l[2:6]'])
    images = native_images('deit3')
    before = outputs_of_all(backbone, images)
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.1, weight_decay=0.1)
    backbone.train().set_route(OWN)
    sum(level.square().mean() for level in backbone(images)).backward()
    optimizer.step()
    after = outputs_of_all(backbone.eval(), images)
    changed = {name for name in before if not all(torch.equal(*p) for p in zip(before[name], after[name], strict=True))}
    assert changed == {OWN}


@pytest.mark.parametrize('with_cp', [False, True])
def test_checkpointed_blocks_have_the_same_gradients(with_cp):
    backbone = toy_backbone(**DEPTHS, **EXACT).train()
    for anchor in backbone.anchors:
        anchor.with_cp = with_cp
    reference = copy.deepcopy(backbone)
    for anchor in reference.anchors:
        anchor.with_cp = False
    for model in (backbone, reference):
        model.set_route('s[0:1]-l[2:4]-s[2:3]')
        sum(level.square().mean() for level in model(native_images('deit3'))).backward()
    expected = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == (expected[name] is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize('final_norm', [False, True])
def test_costs_are_those_of_the_exported_route(final_norm):
    """Law 4: adapters are folded into the weights that a route leaves with."""
    options = dict(exits='own', final_norm=final_norm)
    backbone = toy_backbone(**DEPTHS, **options, exact='adapters', lora_rank=0)
    costs, images = route_costs(backbone, (32, 48)), native_images('deit3', batch=1)
    for route in backbone.space:
        slim = RouteViT(toy_anchors('deit3', DEPTHS['depths']), route.name, backbone.out_indices, **options)
        assert costs[route.id].flops == count_flops(slim.eval(), slim, images), route
        assert costs[route.id].params == sum(parameter.numel() for parameter in slim.parameters()), route


@torch.no_grad()
def test_final_norm_is_that_of_the_exit():
    backbone = toy_backbone('dinov3', exits='own', final_norm=True)
    images = native_images('dinov3')
    for index in range(2):
        backbone.set_route(index)
        expected = anchor_alone(backbone, 'dinov3', index, final_norm=True)(images)
        assert all(torch.equal(mine, its) for mine, its in zip(backbone(images), expected, strict=True))
    plain = toy_backbone('dinov3', exits='own')
    plain.load_state_dict({name: v for name, v in backbone.state_dict().items() if '.norm.' not in name[:15]})
    switched = 's[0:1]-l[2:4]'
    backbone.set_route(switched), plain.set_route(switched)
    for normed, level in zip(backbone(images), plain(images), strict=True):
        expected = backbone.anchors[1].norm(level.movedim(1, -1)).movedim(-1, 1)
        torch.testing.assert_close(normed, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(exact='adapters'), "needs exits='own'"),
        (dict(exits='own', exact='lora'), "exact must be one of 'adapters', 'copies', got 'lora'"),
        (dict(exits='mine'), "exits must be one of 'shared', 'own', got 'mine'"),
        (dict(exits='own', exact='adapters', adapter_rank=0), 'adapter_rank must be a whole number, 1 or more, got 0'),
        (dict(exits='own', own_tunings=['l[0:2]-s[1:2]']), "need exact='adapters'"),
        (dict(exits='own', exact='copies', own_tunings=['l[0:4]']), 'an anchor stays as it is'),
        (dict(exits='own', exact='copies', own_tunings=['l[0:3]']), 'unknown route'),
        (dict(exits='own', exact='copies', own_tunings='l[0:4]'), 'own_tunings must be a list'),
    ],
)
def test_refuses_what_cannot_be_exact(changes, message):
    with pytest.raises(UserError, match=message):
        toy_backbone(**changes)


def test_refuses_a_final_norm_that_is_not_there():
    with pytest.raises(UserError, match='has no norm after its blocks'):
        AnchorViT(toy_anchors('sam')[0], final_norm=True)
