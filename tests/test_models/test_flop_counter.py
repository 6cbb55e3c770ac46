"""Law 4: a route's cost is what fvcore counts on the model running that route, to the last multiply-add."""

import copy

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from toys import randomise, toy_anchor, toy_anchors, toy_backbone, toy_images

from mmsnnet.models import AnchorViT, StitchedViT, find_backbone, model_cost, route_costs

OUT_INDICES = (0, 1, 2, 3)
SHAPES = [(32, 48), (50, 70)]


def make_segmentor(
    family: str = 'deit3', aux_levels: tuple[int, ...] = (0, 1, 2), head_level: int = 3, **kwargs
) -> nn.Module:
    """SETR-naive over depths 2 and 4, as configs/_base_/models has it."""
    head = {
        'type': 'SETRUPHead',
        'in_channels': 32,
        'channels': 8,
        'up_scale': 4,
        'kernel_size': 1,
        'num_classes': 3,
        'dropout_ratio': 0,
        'norm_cfg': {'type': 'SyncBN'},
        'align_corners': False,
    }
    config = {
        'type': 'EncoderDecoder',
        'backbone': {
            'type': 'mmsnnet.StitchedViT',
            'anchors': toy_anchors(family),
            'out_indices': OUT_INDICES,
            'lora_rank': 2,
            **kwargs,
        },
        'decode_head': {**head, 'in_index': head_level, 'num_convs': 1},
        'auxiliary_head': [{**head, 'in_index': level, 'num_convs': 2} for level in aux_levels] or None,
        'test_cfg': {'mode': 'whole'},
    }
    with DefaultScope.overwrite_default_scope('mmseg'):
        return randomise(MODELS.build(config)).eval()


class Call(nn.Module):
    """What fvcore traces: a backbone, or a segmentor's forward pass to its logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> object:
        return self.model(images) if isinstance(self.model, StitchedViT) else self.model(images, mode='tensor')


def count(model: nn.Module, shape: tuple[int, int]) -> tuple[int, int]:
    """FLOPs as fvcore counts them with attention spelled out; parameters that the result depends on."""
    model = copy.deepcopy(model).requires_grad_(True)
    for module in model.modules():
        if hasattr(module, 'fused_attn'):
            module.fused_attn = False
    images = toy_images(*shape, batch=1)
    analysis = FlopCountAnalysis(Call(model).eval(), images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    outputs = Call(model)(images)
    sum(output.sum() for output in (outputs if isinstance(outputs, tuple) else [outputs])).backward()
    params = sum(parameter.numel() for parameter in model.parameters() if parameter.grad is not None)
    return int(analysis.total()), params


def assert_costs_are_counted(model: nn.Module, shape: tuple[int, int]) -> None:
    backbone = find_backbone(model)
    costs = route_costs(model, shape)
    assert len(costs) == len(backbone.space)
    for route, cost in zip(backbone.space, costs, strict=True):
        backbone.set_route(route)
        assert (cost.flops, cost.params) == count(model, shape), route


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('family', ['deit3', 'dinov2-reg4', 'siglip', 'dinov3', 'beit', 'beit-abs', 'swin'])
def test_backbone(family, shape):
    assert_costs_are_counted(toy_backbone(family), shape)


@pytest.mark.parametrize('family', ['rope-mixed', 'rope-mixed-ape', 'beit-shared', 'beit-both'])
def test_backbone_whose_blocks_share_parameters(family):
    assert_costs_are_counted(toy_backbone(family), (32, 48))


@pytest.mark.parametrize(
    'arguments',
    [
        {'depths': (3, 6), 'out_indices': (1, 3, 5)},
        {'depths': (2, 3, 4), 'out_indices': (1, 3)},
        {'two_way': False},
        {'lora_rank': 0},
        {'depths': (4, 4), 'two_way': False, 'window': 2},
        {'family': 'swin', 'depths': (4, 6), 'out_indices': (2, 5), 'two_way': False, 'window': 2, 'final_norm': True},
        {'family': 'swin', 'depths': (4, 6), 'out_indices': (2, 5), 'exits': 'own', 'final_norm': True},
    ],
    ids=['8 routes', 'three anchors', 'one way', 'full matrices', 'window', 'window of stages', 'own exits of stages'],
)
def test_spaces_and_layers(arguments):
    assert_costs_are_counted(toy_backbone(**arguments), (32, 48))


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit'])
def test_segmentor(family, shape):
    assert_costs_are_counted(make_segmentor(family), shape)


def test_taps_for_auxiliary_heads_cost_nothing():
    with_heads, without = make_segmentor(), make_segmentor(aux_levels=())
    assert list(route_costs(with_heads, (32, 48))) == list(route_costs(without, (32, 48)))
    small = find_backbone(with_heads).space.find('s[0:2]').id
    alone = route_costs(toy_backbone(out_indices=OUT_INDICES), (32, 48))[small]
    assert route_costs(with_heads, (32, 48))[small].params < alone.params + sum(
        parameter.numel() for parameter in with_heads.decode_head.parameters()
    )


def test_head_that_does_not_read_the_last_level():
    assert_costs_are_counted(make_segmentor(aux_levels=(0,), head_level=1), (32, 48))


def test_head_that_changes_its_input(monkeypatch):
    model = make_segmentor(aux_levels=())
    expected = list(route_costs(model, (32, 48)))
    forward = type(model.decode_head).forward
    changed = lambda self, levels: forward(self, [level.mul_(2) for level in levels])  # noqa: E731
    monkeypatch.setattr(type(model.decode_head), 'forward', changed)
    assert list(route_costs(model, (32, 48))) == expected


def test_backbone_whose_last_block_is_not_tapped():
    assert_costs_are_counted(toy_backbone(out_indices=(0, 1)), (32, 48))


def test_cost_grows_with_the_image():
    backbone = toy_backbone()
    small, large = route_costs(backbone, (32, 48)), route_costs(backbone, (64, 96))
    assert all(first.flops * 3 < second.flops for first, second in zip(small, large, strict=True))
    assert [cost.params for cost in small] == [cost.params for cost in large]


@pytest.mark.parametrize('training', [True, False])
def test_measuring_changes_nothing(training):
    model = make_segmentor().train(training)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    backbone = find_backbone(model)
    backbone.set_route(2)
    route_costs(model, (32, 48))
    assert backbone.route.id == 2
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_measuring_draws_no_random_numbers():
    backbone = toy_backbone(timm_kwargs={'drop_path_rate': 0.5}).train()
    state = torch.get_rng_state()
    route_costs(backbone, (32, 48))
    assert torch.equal(torch.get_rng_state(), state)


def test_route_is_restored_after_a_failure():
    backbone = toy_backbone().train()
    backbone.set_route(2)
    with pytest.raises(ValueError, match='smaller than a patch'):
        route_costs(backbone, (8, 8))
    assert backbone.route.id == 2
    assert backbone.training


def test_a_segmentor_over_an_anchor_alone_costs_what_its_anchor_route_does():
    stitched = make_segmentor()
    alone = copy.deepcopy(stitched)
    alone.backbone = AnchorViT(toy_anchor(depth=4, width=32), OUT_INDICES)
    large = find_backbone(stitched).space.find('l[0:4]').id
    assert model_cost(alone, (32, 48)) == route_costs(stitched, (32, 48))[large]


def test_find_backbone_looks_inside_wrappers():
    backbone = toy_backbone()
    assert find_backbone(backbone) is backbone
    assert find_backbone(nn.Sequential(nn.Sequential(backbone))) is backbone


@pytest.mark.parametrize('num_backbones', [0, 2])
def test_find_backbone_wants_exactly_one(num_backbones):
    model = nn.Sequential(*(toy_backbone() for _ in range(num_backbones)))
    with pytest.raises(ValueError, match=f'Sequential holds {num_backbones} StitchedViT backbones'):
        find_backbone(model)
