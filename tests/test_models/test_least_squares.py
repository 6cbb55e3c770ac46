"""Law 10: the least-squares start is the same on every rank, however the images are shared out."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor
from toys import native_images, toy_backbone, toy_images

from mmsnnet.models import StitchedViT, solve_stitching_layers

IMAGES = toy_images(64, 80, batch=6)  # 21 tokens each: 126 for 16 or 32 channels and a one


def solved(batches: Sequence[Tensor], **kwargs) -> StitchedViT:
    backbone = toy_backbone(**kwargs)
    solve_stitching_layers(backbone, batches)
    return backbone


def anchor_tokens(
    backbone: StitchedViT, anchor: int, blocks: int, images: Tensor, part: tuple[int, int] = (99, 99)
) -> Tensor:
    """Tokens (T, C) of one anchor alone after ``blocks`` blocks: prefix tokens, and the first patches of each side."""
    anchor = backbone.anchors[anchor]
    with torch.no_grad():
        tokens, grid = anchor.embed(images)
        tokens = anchor.run(tokens, 0, blocks, grid).flatten(1, -2).double()
    prefix, patches = tokens.tensor_split([anchor.num_prefix_tokens], dim=1)
    patches = patches.unflatten(1, grid)[:, : part[0], : part[1]].flatten(1, 2)
    return torch.cat([prefix, patches], dim=1).flatten(0, 1)


def layers_and_features(
    backbone: StitchedViT, images: Tensor, part: tuple[int, int] = (99, 99)
) -> Iterator[tuple[torch.nn.Module, Tensor, Tensor]]:
    """Every stitching layer with the tokens that it leaves and those that it enters."""
    for pair, (small_depth, large_depth) in enumerate(pairwise(backbone.space.depths)):
        for k in range(1, small_depth + 1):
            small = anchor_tokens(backbone, pair, k, images, part)
            large = anchor_tokens(backbone, pair + 1, round(k * large_depth / small_depth), images, part)
            yield backbone.up[pair][str(k)], small, large
            if k < small_depth and backbone.space.is_two_way:
                yield backbone.down[pair][str(k)], large, small


def with_one(tokens: Tensor) -> Tensor:
    return torch.cat([tokens, torch.ones(len(tokens), 1)], dim=1)


def assert_close(first: StitchedViT, second: StitchedViT, tolerance: float = 1e-5) -> None:
    expected = second.state_dict()
    for key, value in first.state_dict().items():
        assert (value - expected[key]).abs().max() <= tolerance * expected[key].abs().max(), key


@pytest.mark.parametrize(
    ('family', 'kwargs'),
    [
        ('deit3', {}),
        ('deit3', {'lora_rank': 0}),
        ('deit3', {'depths': (2, 3, 5), 'out_indices': (4,)}),
        ('deit3', {'depths': (3, 4), 'out_indices': (3,)}),
        ('deit3', {'two_way': False}),
        ('dinov3', {}),
        ('beit', {}),
    ],
)
def test_equals_lstsq_on_all_tokens(family, kwargs):
    backbone = solved([IMAGES[:2], IMAGES[2:]], family=family, **kwargs)
    assert_solves(layers_and_features(backbone, IMAGES), backbone)


def test_a_layer_that_connects_several_places_fits_all_of_them():
    kwargs = dict(depths=(3, 3), out_indices=(2,), exits='own', two_way=False, window=2)
    backbone = solved([IMAGES], **kwargs)
    assert set(backbone.up[0]) == {'1', '2'}
    layers = []
    for k, places in {'1': [(1, 0), (1, 1), (2, 0), (2, 1)], '2': [(2, 2), (3, 1), (3, 2)]}.items():
        features = ([anchor_tokens(backbone, anchor, place[anchor], IMAGES) for place in places] for anchor in (0, 1))
        layers.append((backbone.up[0][k], *map(torch.cat, features)))
    assert_solves(layers, backbone)


def assert_solves(layers: Iterable[tuple[torch.nn.Module, Tensor, Tensor]], backbone: StitchedViT) -> None:
    num_layers = 0
    for layer, source, target in layers:
        solution = torch.linalg.lstsq(with_one(source), target).solution
        ours = torch.cat([layer.weight.T, layer.bias[None]]).double()
        assert (ours - solution).abs().max() <= 1e-5 * solution.abs().max()
        num_layers += 1
    assert num_layers == sum(len(layers) for layers in [*backbone.up, *backbone.down])


@pytest.mark.parametrize(('family', 'part'), [('deit3', (3, 3)), ('dinov2-reg4', (3, 4)), ('sam', (3, 3))])
def test_leaves_out_tokens_of_padding(family, part):
    """A patch counts where one pixel of it is image; prefix tokens always do."""
    is_image = torch.zeros(6, 65, 80, dtype=torch.bool)
    is_image[:, :33, :48] = True
    images = toy_images(65, 80, batch=6)
    backbone = solved([(images[:2], is_image[:2]), (images[2:], is_image[2:])], family=family)
    assert_solves(layers_and_features(backbone, images, part), backbone)


@pytest.mark.parametrize('kwargs', [{}, {'depths': (2, 3, 5), 'out_indices': (4,)}])
def test_tells_the_share_of_variance_each_layer_explains(kwargs):
    backbone = toy_backbone(**kwargs)
    explained = solve_stitching_layers(backbone, IMAGES.split(2))
    layers = dict(backbone.named_modules())
    names = {layers[name]: name for name in explained}
    expected = {}
    for layer, source, target in layers_and_features(backbone, IMAGES):
        # Without the low-rank update, which toys have, too: least squares leaves it as it is.
        residual = target - torch.nn.functional.linear(source, layer.weight.double(), layer.bias.double())
        shares = residual.square().mean(0).sum() / target.var(0, correction=0).sum()
        expected[names[layer]] = 1 - shares.item()
    assert explained == pytest.approx(expected, abs=1e-4)
    assert all(0 < share < 1 for share in explained.values())
    assert max(explained.values()) - min(explained.values()) > 0.05


def test_changes_nothing_but_weights_and_biases_of_stitching_layers():
    before, after = toy_backbone().state_dict(), solved([IMAGES]).state_dict()
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    layers = ('up.0.1', 'up.0.2', 'down.0.1')
    assert changed == {f'{layer}.{name}' for layer in layers for name in ('weight', 'bias')}


def test_batches_do_not_matter():
    one_by_one = solved(IMAGES.split(1))
    assert_close(one_by_one, solved([IMAGES]))
    assert_close(one_by_one, solved(IMAGES.split([1, 3, 2])))


def test_images_may_differ_in_size():
    backbone = solved([toy_images(64, 80), toy_images(48, 112)])
    layer = backbone.up[0]['1']
    source, target = (
        torch.cat([anchor_tokens(backbone, anchor, blocks, toy_images(*size)) for size in ((64, 80), (48, 112))])
        for anchor, blocks in ((0, 1), (1, 2))
    )
    solution = torch.linalg.lstsq(with_one(source), target).solution
    assert (layer.weight.T - solution[:-1]).abs().max() <= 1e-5 * solution.abs().max()


def test_fewer_tokens_than_channels_still_fit():
    """Seven tokens: the normal equations are singular."""
    images = native_images('deit3', batch=1)
    backbone = solved([images])
    for layer, source, target in layers_and_features(backbone, images):
        assert layer.weight.isfinite().all()
        mapped = source @ layer.weight.T.double() + layer.bias
        assert (mapped - target).abs().max() <= 1e-4 * target.abs().max()
        # The smallest of all solutions, not one that runs wild between the tokens.
        smallest = torch.linalg.lstsq(with_one(source), target, driver='gelsd').solution
        ours = torch.cat([layer.weight.T, layer.bias[None]])
        assert ours.norm() <= 1.001 * smallest.norm()


def test_repeated_images_change_nothing():
    assert_close(solved([IMAGES, IMAGES]), solved([IMAGES]))


def test_keeps_sums_in_double_precision():
    """Features far from zero: in single precision their normal equations lose the solution."""
    backbone = toy_backbone(lora_rank=0)
    with torch.no_grad():
        for anchor in backbone.anchors:
            anchor.pos_embed += 100
    solve_stitching_layers(backbone, [IMAGES])
    for layer, source, target in layers_and_features(backbone, IMAGES):
        best = (with_one(source) @ torch.linalg.lstsq(with_one(source), target).solution - target).square().mean()
        ours = (source @ layer.weight.T.double() + layer.bias - target).square().mean()
        assert ours <= 1.01 * best


@pytest.mark.parametrize('training', [True, False])
def test_features_are_those_of_evaluation_mode(training):
    dropping = toy_backbone(timm_kwargs={'drop_path_rate': 0.9}, frozen_anchors=(0,)).train(training)
    modes = [module.training for module in dropping.modules()]
    solve_stitching_layers(dropping, [IMAGES])
    assert [module.training for module in dropping.modules()] == modes
    assert_close(dropping, solved([IMAGES]), tolerance=0)


def test_leaves_route_and_gradients_alone():
    backbone = toy_backbone()
    backbone.set_route(2)
    solve_stitching_layers(backbone, [IMAGES])
    assert backbone.route.id == 2
    assert not any(layer.requires_grad for layer in (backbone.up[0]['1'].weight, backbone.down[0]['1'].weight))
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_needs_images():
    backbone = toy_backbone().train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(ValueError, match='needs training images, got none'):
        solve_stitching_layers(backbone, [])
    assert backbone.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


# Two ranks

SHARES = {
    'even': ([IMAGES[:3]], [IMAGES[3:]]),
    'uneven': ([IMAGES[:1], IMAGES[1:2], IMAGES[2:5]], [IMAGES[5:]]),
    'one rank has none': ([], [IMAGES]),
}


def solve_on_rank(rank: int, folder: Path) -> None:
    """Solve every share, and write what this rank ends with."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'file://{folder}/store', rank=rank, world_size=len(SHARES['even']))
    pinv = torch.linalg.pinv
    # As if this rank's solver rounded another way.
    torch.linalg.pinv = lambda *args, **kwargs: pinv(*args, **kwargs) * (1 + 1e-3 * rank)
    for name, shares in SHARES.items():
        torch.save(solved(shares[rank]).state_dict(), folder / f'{name}.{rank}.pth')
    with pytest.raises(ValueError, match='got none'):
        solved([])
    (folder / f'refused.{rank}').touch()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what each of two processes ended with."""
    folder = tmp_path_factory.mktemp('ranks')
    torch.multiprocessing.spawn(solve_on_rank, (folder,), nprocs=2)
    return folder


@pytest.mark.parametrize('share', SHARES)
def test_all_ranks_end_with_what_one_rank_solves(ranks, share):
    first, second = (torch.load(ranks / f'{share}.{rank}.pth', weights_only=True) for rank in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    alone = toy_backbone()
    alone.load_state_dict(first)
    assert_close(alone, solved([IMAGES]))


def test_every_rank_refuses_no_images(ranks):
    assert {file.name for file in ranks.glob('refused.*')} == {'refused.0', 'refused.1'}
