"""Gradients, modes and options of whole backbones that only training has."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from toys import (
    FAMILIES,
    assert_same_outputs,
    native_images,
    outputs_of_all,
    toy_anchors,
    toy_backbone,
    toy_images,
)

from mmsnnet.errors import UserError
from mmsnnet.models import StitchedViT, route_costs

# Stitching layers of every route of depths 2 and 4, out indices 1 and 3.
LAYERS = {
    's[0:2]': {'up.0.1', 'up.0.2'},
    'l[0:4]': set(),
    's[0:1]-l[2:4]': {'up.0.1'},
    'l[0:2]-s[1:2]': {'down.0.1', 'up.0.2'},
}


@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit'])
@pytest.mark.parametrize('name', LAYERS)
def test_a_route_s_parameters_get_gradients_and_no_others(family, name):
    backbone = toy_backbone(family).train()
    route = backbone.set_route(name)
    sum(output.square().mean() for output in backbone(native_images(family))).backward()
    prefixes = [f'anchors.{anchor}.blocks.{block}.' for anchor, *span in route.spans for block in range(*span)]
    first = f'anchors.{route.spans[0].anchor}.'
    for parameter_name, parameter in backbone.named_parameters():
        is_embedding = parameter_name.startswith(first) and '.blocks.' not in parameter_name
        is_layer = any(parameter_name.startswith(f'{layer}.') for layer in LAYERS[name])
        is_used = is_embedding or is_layer or any(parameter_name.startswith(prefix) for prefix in prefixes)
        if is_used and parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.any(), parameter_name
        else:
            assert parameter.grad is None, parameter_name


def test_only_stitching_matrices_are_frozen():
    backbone = toy_backbone()
    frozen = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert frozen == {'up.0.1.weight', 'up.0.2.weight', 'down.0.1.weight'}
    assert all(parameter.requires_grad for parameter in toy_backbone(lora_rank=0).parameters())


def test_frozen_anchors_do_not_train_and_stay_in_evaluation_mode():
    backbone = toy_backbone(frozen_anchors=(1,), timm_kwargs={'drop_path_rate': 0.9}).train()
    assert backbone.training
    assert backbone.anchors[0].training
    assert not any(module.training for module in backbone.anchors[1].modules())
    backbone.set_route('s[0:1]-l[2:4]')
    sum(output.square().mean() for output in backbone(toy_images())).backward()
    assert all(parameter.grad is None for parameter in backbone.anchors[1].parameters())
    # What comes before a frozen anchor trains through it.
    assert backbone.up[0]['1'].lora_a.grad.any()
    assert backbone.anchors[0].blocks[0].mlp.fc1.weight.grad.any()


def test_drop_path_acts_in_training_only():
    backbone = toy_backbone(timm_kwargs={'drop_path_rate': 0.9})
    images = toy_images(batch=4)
    assert_same_outputs(outputs_of_all(backbone, images), outputs_of_all(toy_backbone(), images))
    torch.manual_seed(0)
    trained = outputs_of_all(backbone.train(), images)
    evaluated = outputs_of_all(backbone.eval(), images)
    assert not any(torch.equal(trained[name][-1], evaluated[name][-1]) for name in LAYERS)


def test_modes_change_no_weight():
    backbone = toy_backbone()
    weights = {key: value.clone() for key, value in backbone.state_dict().items()}
    outputs = outputs_of_all(backbone, toy_images())
    backbone.train().eval()
    assert all(torch.equal(value, weights[key]) for key, value in backbone.state_dict().items())
    assert_same_outputs(outputs_of_all(backbone, toy_images()), outputs)


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_keeps_batch_norms_of_anchors(norm_eval):
    backbone = StitchedViT(toy_anchors(), norm_eval=norm_eval)
    backbone.anchors[0].norm_pre = nn.BatchNorm1d(16)
    assert backbone.train().anchors[0].norm_pre.training is not norm_eval
    assert not backbone.eval().anchors[0].norm_pre.training


@pytest.mark.parametrize('name', LAYERS)
def test_checkpointing_changes_neither_outputs_nor_gradients(name):
    gradients = []
    for with_cp in (False, True):
        backbone = toy_backbone(with_cp=with_cp, timm_kwargs={'drop_path_rate': 0.3}).train()
        backbone.set_route(name)
        torch.manual_seed(0)
        loss = sum(output.square().mean() for output in backbone(toy_images(batch=4)))
        loss.backward()
        gradients.append([loss, *(parameter.grad for parameter in backbone.parameters() if parameter.grad is not None)])
    assert len(gradients[0]) == len(gradients[1])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('family', FAMILIES)
def test_trains_in_mixed_precision(family, dtype, with_cp):
    backbone = toy_backbone(family, with_cp=with_cp).train()
    frozen = {name: weight.clone() for name, weight in backbone.named_parameters() if not weight.requires_grad}
    assert frozen
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-4, weight_decay=0.1)
    for route in backbone.space:
        backbone.zero_grad()
        backbone.set_route(route)
        expected = backbone(native_images(family))
        with torch.autocast('cpu', dtype):
            outputs = backbone(native_images(family))
        for output, exact in zip(outputs, expected, strict=True):
            assert (output - exact).abs().mean() < 0.05 * exact.abs().mean()
        sum(output.float().square().mean() for output in outputs).backward()
        gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        optimizer.step()
    for name, weight in frozen.items():
        assert torch.equal(backbone.get_parameter(name), weight), name


@pytest.mark.parametrize('exact', ['adapters', 'copies'])
@pytest.mark.parametrize('family', ['deit3', 'beit'])
def test_compiled_parts_run_with_and_without_a_tuning(family, exact):
    torch._dynamo.reset()
    settings = dict(exits='own', exact=exact, own_tunings=['l[0:2]-s[1:2]'])
    plain, compiled = (
        toy_backbone(family, **settings),
        toy_backbone(family, **settings, compile_blocks={'backend': 'eager'}),
    )
    images = native_images(family)
    for route in [*plain.space, plain.space[0]]:
        for backbone in (plain, compiled):
            backbone.zero_grad()
            backbone.set_route(route)
        torch.testing.assert_close(tuple(compiled(images)), tuple(plain(images)))
        if route.kind != 'anchor':
            for backbone in (plain, compiled):
                sum(output.square().mean() for output in backbone(images)).backward()
            for first, second in zip(plain.parameters(), compiled.parameters(), strict=True):
                torch.testing.assert_close(first.grad, second.grad)


@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit', 'sam'])
def test_routes_share_few_compiled_parts(family):
    """A compiler that changes nothing counts what it gets to see."""
    graphs = []

    def compiler(graph: torch.fx.GraphModule, _: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    plain = toy_backbone(family, depths=(4, 8))
    compiled = toy_backbone(family, depths=(4, 8), compile_blocks={'backend': compiler})
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    images = native_images(family)
    shape = tuple(images.shape[-2:])
    assert route_costs(compiled, shape).gflops == route_costs(plain, shape).gflops
    assert not graphs
    for backbone in (plain, compiled):
        backbone.train()
    for route in plain.space:
        outputs = []
        for backbone in (plain, compiled):
            backbone.zero_grad()
            backbone.set_route(route)
            outputs.append(backbone(images))
            sum(output.square().mean() for output in outputs[-1]).backward()
        for first, second in zip(*outputs, strict=True):
            torch.testing.assert_close(first, second)
        for first, second in zip(plain.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(first.grad, second.grad)
    # Two kinds of blocks, or four where some attend within windows, and two directions of layers: not one for each of
    # twelve blocks and seven layers, let alone for each of 14 routes.
    assert 4 <= len(graphs) <= 10


def test_many_kinds_of_parts_are_all_compiled():
    """PyTorch by itself compiles a code eight times, and then runs it as it is. Each drop path rate is a kind."""
    graphs = []

    def compiler(graph: torch.fx.GraphModule, _: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    arguments = dict(depths=(2, 12), out_indices=(11,), timm_kwargs={'drop_path_rate': 0.5})
    compiled = toy_backbone(**arguments, compile_blocks={'backend': compiler}).train()
    compiled.set_route('l[0:12]')
    compiled(native_images('deit3'))
    assert len(graphs) == 12


@pytest.mark.parametrize(
    'compile_blocks',
    [
        {'mode': 'reduce-overhead'},
        {'mode': 'max-autotune'},
        {'backend': 'cudagraphs'},
        {'options': {'triton.cudagraphs': True}},
    ],
    ids=str,
)
def test_cuda_graphs_are_refused(compile_blocks):
    """They overwrite what routes share, which only a GPU would show."""
    with pytest.raises(UserError, match=r'compile_blocks cannot be .*max-autotune-no-cudagraphs'):
        toy_backbone(compile_blocks=compile_blocks)


@pytest.mark.parametrize('compile_blocks', [{'mode': 'max-autotune-no-cudagraphs'}, {'options': {}}, True], ids=str)
def test_other_ways_to_compile_are_not(compile_blocks):
    toy_backbone(compile_blocks=compile_blocks)
