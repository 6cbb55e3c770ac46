"""Law 13, without a GPU: no route mixes devices, copies between them, or reads back to the host."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import torch
from fake_cuda import DeviceWatch, fake_cuda, moved
from torch import Tensor
from toys import FAMILIES, toy_anchor, toy_backbone

from mmsnnet.evaluation import LatencyBench, LatencySetting, SharedPrefixes
from mmsnnet.models import Anchor, StitchedViT, create_anchor, fused_attention
from mmsnnet.models.anchors import Grid, beit
from mmsnnet.models.constants import ConstantCache
from mmsnnet.models.least_squares import solve_stitching_layers

KINDS = [*FAMILIES, 'deit3-windowed', 'dinov2-windowed']


EXACT = dict(exits='own', exact='adapters')


@pytest.fixture(autouse=True)
def _fake_constants(monkeypatch):
    """Constants without values are kept too, but not beyond a test."""
    monkeypatch.setattr(ConstantCache, 'can_keep', lambda *_: True)
    monkeypatch.setattr(fused_attention, '_CONSTANTS', ConstantCache(64))
    monkeypatch.setattr(beit, '_INDICES', ConstantCache(64))


@pytest.fixture
def watch() -> Iterator[DeviceWatch]:
    with fake_cuda() as watch:
        yield watch


def make(kind: str, **kwargs) -> StitchedViT:
    """A backbone of four routes."""
    family = kind.removesuffix('-windowed')
    if kind != family:
        kwargs['timm_kwargs'] = {'windowed': dict(window_size=2, img_size=(32, 48), global_attn_indexes=(1,))}
    return toy_backbone(family, depths=(2, 2), out_indices=(1,), **kwargs)


def images_of(kind: str, device: str) -> Tensor:
    return torch.empty(2, 3, *FAMILIES[kind.removesuffix('-windowed')]['img_size'], device=device)


# The watch itself


def test_sees_what_makes_the_device_wait(watch):
    tensor = torch.empty(4, 3, device='cuda')
    for operation, notes, name in (
        (lambda: tensor[torch.tensor([0, 2])], watch.mixed, 'aten::index'),
        (lambda: tensor.copy_(torch.ones(4, 3)), watch.crossings, 'aten::copy_'),
        (lambda: torch.tensor([1.0, 2.0], device='cuda'), watch.crossings, 'aten::_to_copy'),
        (lambda: tensor.cpu(), watch.crossings, 'aten::_to_copy'),
        (lambda: tensor.sum().item(), watch.crossings, 'aten::_local_scalar_dense'),
        (lambda: bool((tensor > 0).any()), watch.crossings, 'aten::_local_scalar_dense'),
        (lambda: torch.equal(tensor, tensor + 1), watch.crossings, 'aten::equal'),
    ):
        watch.clear()
        operation()
        assert notes == [name]


def test_lets_pass_what_does_not(watch):
    tensor = torch.empty(4, 3, device='cuda')
    watch.clear()
    (tensor * torch.tensor(2.0) + 1)[1:, torch.arange(2, device='cuda')].T.relu_()
    assert (watch.mixed, watch.crossings) == ([], [])
    assert Counter(watch.kernels) == Counter(['aten::mul', 'aten::add', 'aten::arange', 'aten::index', 'aten::relu_'])


# Routes


@torch.no_grad()
@pytest.mark.parametrize('exits', [{}, EXACT], ids=['shared', 'exact'])
@pytest.mark.parametrize('kind', KINDS)
def test_no_route_waits_for_the_device(kind, exits):
    """But for constants, which come once."""
    backbone = make(kind, **exits)
    with fake_cuda() as watch:
        moved(backbone, 'cuda')
        images = images_of(kind, 'cuda')
        for crossings in (len(backbone.anchors), 0):
            watch.clear()
            for route in backbone.space:
                backbone.set_route(route)
                backbone(images)
            assert watch.mixed == []
            assert len(watch.crossings) <= crossings
            assert watch.kernels


@pytest.mark.parametrize('exits', [{}, EXACT], ids=['shared', 'exact'])
@pytest.mark.parametrize('kind', ['deit3', 'dinov3', 'eva02', 'rope-mixed', 'beit-both', 'sam', 'deit3-windowed'])
def test_training_does_not_wait_for_the_device(kind, exits):
    """On meta tensors: gradients of fake CUDA tensors need a real device."""
    backbone = moved(make(kind, with_cp=True, **exits).train(), 'meta')
    images = images_of(kind, 'meta')
    backbone.set_route('l[0:1]-s[1:2]')
    with DeviceWatch() as watch:
        for _ in range(2):
            watch.clear()
            sum(level.square().mean() for level in backbone(images)).backward()
    assert (watch.mixed, watch.crossings) == ([], [])
    assert watch.kernels


@torch.no_grad()
@pytest.mark.parametrize('exits', [{}, EXACT], ids=['shared', 'exact'])
@pytest.mark.parametrize('route_batch', [1, 3])
@pytest.mark.parametrize('kind', ['deit3', 'dinov3', 'rope-mixed', 'beit', 'deit3-windowed'])
def test_one_pass_over_routes_does_not_wait_for_the_device(kind, route_batch, exits):
    backbone = make(kind, **exits)
    sharing = SharedPrefixes(backbone, list(backbone.space), route_batch=route_batch)
    with fake_cuda() as watch, sharing:
        moved(backbone, 'cuda')
        images = images_of(kind, 'cuda')
        for _ in range(2):
            watch.clear()
            for _ in sharing.visit():
                backbone(images)
    assert (watch.mixed, watch.crossings) == ([], [])
    assert watch.kernels


@torch.no_grad()
def test_images_made_anew_for_each_route_are_compared_once_a_route():
    """Only the device knows whether they are those of the route before."""
    backbone = make('deit3')
    with fake_cuda() as watch, SharedPrefixes(backbone, list(backbone.space)) as sharing:
        moved(backbone, 'cuda')
        images = images_of('deit3', 'cuda')
        for _ in sharing.visit():
            backbone(images.clone())
    assert watch.crossings == ['aten::equal'] * (len(backbone.space) - 1)


def test_the_least_squares_start_reads_back_once_a_layer():
    """And once a place to switch, whatever the number of images."""
    backbone = make('deit3')
    read_backs = len(backbone.up[0]) + len(backbone.up[0]) + len(backbone.down[0])
    with fake_cuda() as watch:
        moved(backbone, 'cuda')
        for batches in (1, 3):
            watch.clear()
            solve_stitching_layers(backbone, [images_of('deit3', 'cuda')] * batches)
            assert watch.mixed == []
            assert watch.crossings == ['aten::_local_scalar_dense'] * read_backs


class Event:
    """Stands in for CUDA's, which needs a device."""

    def __init__(self, enable_timing: bool) -> None: ...

    def record(self, stream: None) -> None: ...

    def elapsed_time(self, other: 'Event') -> float:
        return 1.0


@pytest.mark.parametrize('kind', ['dinov3', 'beit', 'deit3-windowed'])
def test_timing_blocks_does_not_wait_for_the_device(kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda _: None)
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda _: None)
    backbone = make(kind)
    routes = list(backbone.space)
    with fake_cuda() as watch:
        setting = LatencySetting(tuple(images_of(kind, 'cuda').shape[2:]), repetitions=1)
        bench = LatencyBench(moved(backbone, 'cuda'), setting)
        bench.estimate(routes[:1])
        watch.clear()
        assert bench.estimate(routes).keys() == set(routes)
    assert (watch.mixed, watch.crossings) == ([], [])


# What positions cost


def kernels_of(watch: DeviceWatch, anchor: Anchor, tokens: Tensor, grid: Grid, runs: Sequence[tuple[int, int]]) -> int:
    watch.clear()
    for start, stop in runs:
        anchor.run(tokens, start, stop, grid)
    return len(watch.kernels)


@torch.no_grad()
@pytest.mark.parametrize(('global_attn_indexes', 'kernels'), [((), 28), ((0,), 25)])
def test_kernels_of_a_windowed_block(global_attn_indexes, kernels):
    """With timm's indices, and marks made in each block, these were 40 and 37. Fused attention counts 5."""
    windowed = dict(window_size=2, img_size=(64, 64), global_attn_indexes=global_attn_indexes)
    anchor = create_anchor(**toy_anchor('deit3', 1), windowed=windowed).eval()
    with fake_cuda() as watch:
        moved(anchor, 'cuda')
        tokens, grid = anchor.embed(torch.empty(2, 3, 64, 64, device='cuda'))
        first, second = (kernels_of(watch, anchor, tokens, grid, [(0, 1)]) for _ in range(2))
    assert second <= kernels < first


@torch.no_grad()
@pytest.mark.parametrize('family', ['dinov3', 'eva02', 'rope', 'rope-mixed'])
def test_rotary_embeddings_are_made_once_for_all_runs(family):
    """Those that are learnt per block are made once for each block."""
    anchor = create_anchor(**toy_anchor(family, 4)).eval()
    with fake_cuda() as watch:
        moved(anchor, 'cuda')
        tokens, grid = anchor.embed(images_of(family, 'cuda'))
        anchor.run(tokens, 0, 1, grid)
        whole = kernels_of(watch, anchor, tokens, grid, [(0, 4)])
        assert kernels_of(watch, anchor, tokens, grid, [(block, block + 1) for block in range(4)]) == whole
