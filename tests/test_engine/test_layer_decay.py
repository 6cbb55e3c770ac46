"""Layer decay counts each anchor's own depth, and every trained parameter once."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn
from toys import FAMILIES, toy_anchor, toy_anchors, toy_backbone

from mmsnnet.engine.layer_decay import find_place, format_groups, parameter_groups
from mmsnnet.models import AnchorViT, StitchedViT


class Model(nn.Module):
    """A backbone with a head."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(32, 4, 1)


def scales(model: nn.Module, rate) -> dict[str, tuple[float, float]]:
    """(part of the learning rate, weight decay) of every parameter."""
    groups = parameter_groups(model, rate, lr=2.0, weight_decay=0.1)
    found = {}
    for group in groups:
        assert group['lr'] == 2.0 * group['lr_scale']
        for name, parameter in zip(group['param_names'], group['params'], strict=True):
            assert name not in found
            assert parameter is model.get_parameter(name)
            found[name] = group['lr_scale'], group['weight_decay']
    return found


@pytest.mark.parametrize(('family', 'name'), [('siglip', 'attn_pool.q.weight'), ('beit', 'fc_norm.weight')])
def test_pooling_learns_as_the_norm_before_it(family, name):
    backbone = toy_backbone(family, out_type='pooled', out_indices=(-1,), exits='own')
    assert backbone.get_parameter(f'anchors.1.pool.{name}') is not None
    assert find_place(backbone, f'anchors.1.pool.{name}') == (1, 4)


@pytest.mark.parametrize('family', FAMILIES)
def test_every_trained_parameter_is_in_one_group(family):
    model = Model(toy_backbone(family))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert scales(model, 0.5).keys() == trained
    assert 'backbone.up.0.1.weight' not in trained  # frozen beside its low-rank update


def test_each_anchor_counts_its_own_depth():
    """Depths 2 and 4; the last block trains at the rate, the first a block's worth less for each between."""
    found = scales(Model(toy_backbone()), 0.5)
    expected = {
        'backbone.anchors.0.blocks.1.mlp.fc1.weight': 0.5,
        'backbone.anchors.0.blocks.0.mlp.fc1.weight': 0.25,
        'backbone.anchors.0.patch_embed.proj.weight': 0.125,
        'backbone.anchors.1.blocks.3.mlp.fc1.weight': 0.5,
        'backbone.anchors.1.blocks.0.mlp.fc1.weight': 0.5**4,
        'backbone.anchors.1.pos_embed': 0.5**5,
        'head.weight': 1.0,
    }
    assert {name: found[name][0] for name in expected} == expected


def test_the_norm_behind_the_blocks_stands_where_the_last_block_does():
    backbone = toy_backbone('dinov2', final_norm=True)
    for index, anchor in enumerate(backbone.anchors):
        last = find_place(backbone, f'anchors.{index}.blocks.{anchor.depth - 1}.norm1.weight')
        assert find_place(backbone, f'anchors.{index}.norm.weight') == last


def test_stitching_layers_stand_where_their_output_goes():
    """up[1] stands in for the large anchor's block 1 (boundary b_1 = 2), up[2] for its last, down[1] for block 0."""
    found = scales(Model(toy_backbone()), 0.5)
    for layer, block in [
        ('up.0.1', 'anchors.1.blocks.1'),
        ('up.0.2', 'anchors.1.blocks.3'),
        ('down.0.1', 'anchors.0.blocks.0'),
    ]:
        assert found[f'backbone.{layer}.lora_a'][0] == found[f'backbone.{block}.mlp.fc1.weight'][0]


@pytest.mark.parametrize('exact', ['adapters', 'copies'])
def test_tunings_stand_where_their_blocks_and_layers_do(exact):
    own = 'l[0:2]-s[1:2]'
    model = Model(toy_backbone(exits='own', exact=exact, own_tunings=[own]))
    found = scales(model, 0.5)
    matrix = 'updates.mlp_fc1.lora_b' if exact == 'adapters' else 'mlp.fc1.weight'
    expected = {
        f'backbone.tunings.shared.stand_ins.0.0.{matrix}': 0.25,
        f'backbone.tunings.shared.stand_ins.1.3.{matrix}': 0.5,
        f'backbone.tunings.{own}.stand_ins.1.1.{matrix}': 0.5**3,
        f'backbone.tunings.{own}.layers.down_0_1.lora_a': 0.25,
    }
    assert {name: found[name][0] for name in expected} == expected
    assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_anchors_may_have_rates_of_their_own():
    found = scales(Model(toy_backbone()), [0.5, 0.1])
    assert found['backbone.anchors.0.blocks.1.mlp.fc1.weight'][0] == 0.5
    assert found['backbone.anchors.1.blocks.3.mlp.fc1.weight'][0] == 0.1


@pytest.mark.parametrize('family', ['sam', 'beit', 'dinov2-reg4'])
def test_norms_biases_tokens_and_positions_do_not_decay(family):
    found = scales(Model(toy_backbone(family)), 0.5)
    words = ('norm', 'bias', 'gamma', 'pos_embed', 'rel_pos', 'token', 'relative_position')
    for name, (_, decay) in found.items():
        assert decay == (0.0 if any(word in name for word in words) else 0.1), name
    assert {decay for _, decay in found.values()} == {0.0, 0.1}


def test_single_anchors_and_bare_backbones():
    found = scales(AnchorViT(toy_anchor(depth=3)), 0.5)
    assert found['anchors.0.blocks.0.mlp.fc1.weight'][0] == 0.125


def build(model: nn.Module, **paramwise_cfg):
    cfg = dict(
        type='OptimWrapper',
        constructor='mmsnnet.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=paramwise_cfg,
    )
    return build_optim_wrapper(model, cfg)


def test_optimizer_steps_by_the_decayed_rates():
    """SGD moves a weight by rate times gradient."""
    model = Model(StitchedViT(toy_anchors(), (1, 3)))
    cfg = dict(
        type='OptimWrapper',
        constructor='mmsnnet.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=1.0),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    wrapper = build_optim_wrapper(model, cfg)
    moved = {'backbone.anchors.0.blocks.0.mlp.fc1.weight': 0.25, 'head.weight': 1.0}
    before = {name: model.get_parameter(name).detach().clone() for name in moved}
    wrapper.update_params(sum(model.get_parameter(name).sum() for name in moved))
    for name, rate in moved.items():
        torch.testing.assert_close(before[name] - model.get_parameter(name), torch.full_like(before[name], rate))


def test_prints_its_groups_on_request(monkeypatch):
    printed = []
    monkeypatch.setattr('mmsnnet.engine.layer_decay.print_log', lambda text, **_: printed.append(text))
    model = Model(toy_backbone())
    build(model, layer_decay_rate=0.5)
    assert not printed
    build(model, layer_decay_rate=0.5, print_groups=True)
    assert 'anchors.1 layer 4' in printed[0]
    assert 'heads' in printed[0]


def test_table_counts_all_trained_parameters():
    model = Model(toy_backbone())
    groups = parameter_groups(model, 0.5, 1.0, 0.1)
    total = sum(float(line.split()[-1]) for line in format_groups(groups).splitlines()[2:])
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert total == pytest.approx(trained / 1e6, abs=5e-4 * len(groups))


@pytest.mark.parametrize(
    ('paramwise_cfg', 'message'),
    [
        ({}, 'needs layer_decay_rate'),
        ({'layer_decay_rate': 0.5, 'num_layers': 12}, r"got \['layer_decay_rate', 'num_layers'\]"),
        ({'layer_decay_rate': 0}, 'must be one number over 0 and up to 1, or 2, one for each anchor'),
        ({'layer_decay_rate': [0.5, 0.5, 0.5]}, 'or 2, one for each anchor'),
    ],
)
def test_refuses_other_settings(paramwise_cfg, message):
    with pytest.raises(ValueError, match=message):
        build(Model(toy_backbone()), **paramwise_cfg)


def test_refuses_a_model_that_it_does_not_understand_by_name():
    class ResNet(nn.Module):
        pass

    model = Model(ResNet())
    with pytest.raises(ValueError, match='in Model, whose backbone is a ResNet'):
        build(model, layer_decay_rate=0.5)
