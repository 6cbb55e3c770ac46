"""Law 6 on backbones: routes that share what they have in common compute what they compute alone."""

from collections import Counter

import pytest
import torch
from toys import FAMILIES, native_images, toy_backbone

from mmsnnet.evaluation import SharedPrefixes
from mmsnnet.models import StitchedViT
from mmsnnet.stitching import Run

DEPTHS = {'depths': (3, 6), 'out_indices': (1, 3, 5)}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def alone(backbone: StitchedViT, calls: list[torch.Tensor]) -> dict:
    return {route: [backbone(images) for images in calls if backbone.set_route(route)] for route in backbone.space}


def together(backbone: StitchedViT, calls: list[torch.Tensor], **kwargs) -> dict:
    with SharedPrefixes(backbone, list(backbone.space), **kwargs) as sharing:
        return {route: [backbone(images) for images in calls] for route in sharing.visit()}


def block_counts(backbone: StitchedViT) -> Counter:
    """Counts how often, and on how many images, each block runs from now on."""
    counts: Counter = Counter()
    for anchor, module in enumerate(backbone.anchors):
        for index, block in enumerate(module.blocks):
            block.register_forward_pre_hook(lambda _, args, key=(anchor, index): counts.update({key: len(args[0])}))
    return counts


@pytest.mark.parametrize('family', FAMILIES)
def test_features_are_exactly_those_of_each_route_alone(family):
    backbone = toy_backbone(family)
    # A model that calls its backbone on several windows of an image.
    calls = [native_images(family), native_images(family).flip(-1)]
    expected, shared = alone(backbone, calls), together(backbone, calls)
    assert shared.keys() == expected.keys()
    for route, outputs in expected.items():
        for first, second in zip(outputs, shared[route], strict=True):
            assert all(torch.equal(level, other) for level, other in zip(first, second, strict=True))


@pytest.mark.parametrize('route_batch', [2, 5, 1000])
@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit', 'beit-shared'])
def test_features_of_routes_that_run_as_one_batch_differ_by_rounding(family, route_batch):
    backbone = toy_backbone(family, **DEPTHS)
    calls = [native_images(family), native_images(family).flip(-1)]
    expected, batched = alone(backbone, calls), together(backbone, calls, route_batch=route_batch)
    torch.testing.assert_close(batched, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('route_batch', [1, 4, 1000])
def test_nothing_is_computed_twice(route_batch):
    backbone = toy_backbone(**DEPTHS)
    counts = block_counts(backbone)
    sharing = SharedPrefixes(backbone, list(backbone.space), route_batch=route_batch)
    images = native_images('deit3')
    with sharing:
        for _ in sharing.visit():
            backbone(images)
    expected = Counter(
        (step.anchor, block)
        for step in sharing._tree.steps()
        if isinstance(step, Run)
        for block in range(step.start, step.stop)
    )
    assert counts == Counter({key: count * len(images) for key, count in expected.items()})


def test_routes_that_enter_the_same_block_run_in_one_call():
    backbone = toy_backbone(**DEPTHS)
    calls = Counter()
    for block in (block for anchor in backbone.anchors for block in anchor.blocks):
        block.register_forward_pre_hook(lambda module, _: calls.update([module]))
    with SharedPrefixes(backbone, list(backbone.space), route_batch=1000) as sharing:
        for _ in sharing.visit():
            backbone(native_images('deit3'))
    # Once for the first route, which shows how much a route's features take, and once for all others.
    assert max(calls.values()) == 2


@pytest.mark.parametrize('route_batch', [1, 4])
@pytest.mark.parametrize('budget', [0, 0.005, 0.05])
def test_memory_stays_in_its_budget_and_results_stay_the_same(budget, route_batch):
    backbone = toy_backbone(**DEPTHS)
    calls = [native_images('deit3')]
    sharing = SharedPrefixes(backbone, list(backbone.space), memory_budget_mb=budget, route_batch=route_batch)
    with sharing:
        shared = {route: [backbone(images) for images in calls] for route in sharing.visit()}
    assert sharing.peak_memory_mb <= budget
    torch.testing.assert_close(shared, alone(backbone, calls), rtol=1e-4, atol=1e-5)


def test_keeps_no_more_than_a_few_tokens():
    """Two places for routes to start from, where a naive cache would keep all of them."""
    backbone = toy_backbone(depths=(6, 12), out_indices=(11,))
    images = native_images('deit3')
    tokens_mb = backbone.start(images, 1).tokens.nbytes / 2**20
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        for _ in sharing.visit():
            backbone(images)
    assert 0 < sharing.peak_memory_mb <= 2 * tokens_mb


@pytest.mark.parametrize('last', ['s[0:3]', 'l[0:2]-s[1:2]-l[4:6]', 's[0:1]-l[2:6]'])
def test_visits_every_route_once_and_the_last_one_last(last):
    backbone = toy_backbone(**DEPTHS)
    with SharedPrefixes(backbone, list(backbone.space), backbone.space.find(last)) as sharing:
        visited = [route for route in sharing.visit() if backbone.route == route]
    assert visited == list(sharing.routes)
    assert visited[-1].name == last
    assert set(visited) == set(backbone.space)


def test_a_visit_can_begin_in_the_middle():
    backbone = toy_backbone(**DEPTHS)
    images = native_images('deit3')
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        visited = []
        for route in sharing.visit(skip=5):
            visited.append(route)
            assert torch.equal(backbone(images)[-1], StitchedViT.forward(backbone, images)[-1])
    assert visited == sharing.routes[5:]


def test_other_images_are_not_taken_for_those_before():
    """A model that changes its images from route to route is slow, not wrong."""
    backbone = toy_backbone(**DEPTHS)
    images = native_images('deit3')
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        for turn, _ in enumerate(sharing.visit()):
            assert torch.equal(backbone(images + turn)[-1], StitchedViT.forward(backbone, images + turn)[-1])


def test_images_changed_in_place_are_not_taken_for_those_before():
    backbone = toy_backbone(**DEPTHS)
    images = native_images('deit3')
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        for _ in sharing.visit():
            assert torch.equal(backbone(images)[-1], StitchedViT.forward(backbone, images)[-1])
            images += 1


def test_the_same_images_are_not_compared(monkeypatch):
    """A comparison waits for the device. Windows of an image are new tensors, but lie where they did."""
    backbone = toy_backbone(**DEPTHS)
    images = native_images('deit3')
    expected = alone(backbone, [images, images[..., :16]])
    monkeypatch.setattr(torch, 'equal', None)
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        found = {route: [backbone(images), backbone(images[..., :16])] for route in sharing.visit()}
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_windows_of_other_places_are_told_apart():
    backbone = toy_backbone(**DEPTHS)
    images = native_images('deit3', batch=4)
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        for turn, _ in enumerate(sharing.visit()):
            window = images[turn % 4 : turn % 4 + 1]
            assert torch.equal(backbone(window)[-1], StitchedViT.forward(backbone, window)[-1])


def test_two_batches_in_a_row():
    backbone = toy_backbone(**DEPTHS)
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        for images in (native_images('deit3'), native_images('deit3').flip(-1)):
            for _ in sharing.visit():
                assert torch.equal(backbone(images)[-1], StitchedViT.forward(backbone, images)[-1])


def test_a_model_that_overwrites_features_is_refused():
    backbone = toy_backbone(**DEPTHS)
    images = native_images('deit3')
    with SharedPrefixes(backbone, list(backbone.space)) as sharing:
        visit = sharing.visit()
        next(visit)
        backbone(images)[0].relu_()
        with pytest.raises(ValueError, match='in place'):
            next(visit)
    with SharedPrefixes(backbone, list(backbone.space), memory_budget_mb=0) as sharing:
        for _ in sharing.visit():
            assert torch.equal(backbone(images)[0].relu_(), StitchedViT.forward(backbone, images)[0].relu())


@pytest.mark.parametrize('route_batch', [1, 4])
def test_in_inference_mode_a_model_may_overwrite_features(route_batch):
    """Nothing tells that it did: it gets copies."""
    backbone = toy_backbone(**DEPTHS)
    calls = [native_images('deit3')]
    expected = alone(backbone, calls)
    with torch.inference_mode(), SharedPrefixes(backbone, list(backbone.space), route_batch=route_batch) as sharing:
        for route in sharing.visit():
            levels = backbone(calls[0])
            torch.testing.assert_close(levels, expected[route][0], rtol=1e-4, atol=1e-5)
            for level in levels:
                level.zero_()


def test_the_backbone_is_itself_again_afterwards():
    backbone = toy_backbone()
    with pytest.raises(RuntimeError, match='boom'), SharedPrefixes(backbone, list(backbone.space)):
        raise RuntimeError('boom')
    assert 'forward' not in vars(backbone)


@pytest.mark.parametrize(('setting', 'value'), [('route_batch', 0), ('memory_budget_mb', -1)])
def test_refuses(setting, value):
    backbone = toy_backbone()
    with pytest.raises(ValueError, match=f'{setting} must be .* got {value}'):
        SharedPrefixes(backbone, list(backbone.space), **{setting: value})
