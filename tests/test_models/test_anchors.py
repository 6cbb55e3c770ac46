"""Law 1: an anchor gives its timm model's own intermediate features, and so at any image size."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from toys import FAMILIES, PLAIN, native_images, randomise, timm_features, toy_anchor, toy_images, toy_vit, toy_vit_like

from mmsnnet.models import Anchor, create_anchor
from mmsnnet.models.anchors import check_compatible, wrap_vit
from mmsnnet.models.anchors.beit import BeitAnchor

DEPTH = 3


def make_anchor(family: str, **kwargs) -> Anchor:
    return randomise(create_anchor(**toy_anchor(family, DEPTH, **kwargs))).eval()


def features(anchor: Anchor, images: Tensor, stops: Sequence[int] = range(1, DEPTH + 1)) -> list[Tensor]:
    """Maps of ``anchor`` after each number of blocks."""
    tokens, grid = anchor.embed(images)
    maps, start = [], 0
    for stop in stops:
        tokens, start = anchor.run(tokens, start, stop, grid), stop
        maps.append(anchor.to_map(tokens, grid))
    return maps


def expected_features(family: str, weights: dict[str, Tensor], images: Tensor, **kwargs) -> list[Tensor]:
    """Every block's map of a fresh timm model with an anchor's weights."""
    return timm_features(toy_vit_like(family, weights, DEPTH, num_classes=0, **kwargs), images)


def resize(rows: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Rows (h * w, C) of a grid -> rows of another, bicubically and without antialiasing."""
    grid = rows.T.reshape(1, -1, *old)
    return F.interpolate(grid, size=new, mode='bicubic', align_corners=False).flatten(2)[0].T


def resized_weights(anchor: Anchor, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Weights of ``anchor`` for a timm model that is made for another grid."""
    weights = dict(anchor.state_dict())
    old = anchor.grid_size
    for key, value in weights.items():
        if key == 'pos_embed' and value.ndim == 4:
            weights[key] = resize(value.flatten(0, 2), old, grid).unflatten(0, grid)[None]
        elif key == 'pos_embed':
            prefix = value.shape[1] - old[0] * old[1]
            weights[key] = torch.cat([value[:, :prefix], resize(value[0, prefix:], old, grid)[None]], dim=1)
        elif key.endswith('relative_position_bias_table') and isinstance(anchor, BeitAnchor):
            sizes = [tuple(2 * side - 1 for side in sides) for sides in (old, grid)]
            weights[key] = torch.cat([resize(value[:-3], *sizes), value[-3:]])
        elif key.endswith(('rel_pos_h', 'rel_pos_w')) and anchor.blocks[int(key.split('.')[1])].window_size == 0:
            side = 2 * grid[key.endswith('w')] - 1
            weights[key] = F.interpolate(value.T[None], size=side, mode='linear')[0].T
    return weights


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape
        assert (our - their).abs().max() <= 1e-5 * their.abs().max()


@torch.no_grad()
@pytest.mark.parametrize('family', FAMILIES)
def test_equals_timm(family):
    anchor, images = make_anchor(family), native_images(family)
    assert_same(features(anchor, images), expected_features(family, anchor.state_dict(), images))


@torch.no_grad()
@pytest.mark.parametrize('family', PLAIN)
def test_blocks_matter(family):
    """The comparisons here would say little on features that hardly change from block to block."""
    first, *_, last = features(make_anchor(family), native_images(family))
    assert (last - first).abs().mean() > 0.5 * first.abs().mean()


@torch.no_grad()
@pytest.mark.parametrize('grid', [(4, 5), (3, 2), (1, 6), (2, 2)], ids=str)
@pytest.mark.parametrize('family', FAMILIES)
def test_equals_timm_at_another_size(family, grid):
    anchor = make_anchor(family)
    size = tuple(side * patch for side, patch in zip(grid, anchor.patch_size, strict=True))
    images = toy_images(*size)
    expected = expected_features(family, resized_weights(anchor, grid), images, img_size=size)
    assert_same(features(anchor, images), expected)


@torch.no_grad()
@pytest.mark.parametrize('family', ['deit3', 'clip', 'dinov3', 'eva02'])
def test_timm_s_dynamic_size_changes_nothing_at_the_native_size(family):
    images = native_images(family)
    assert_same(features(make_anchor(family, dynamic_img_size=True), images), features(make_anchor(family), images))


@torch.no_grad()
@pytest.mark.parametrize('family', ['deit3', 'dinov2-reg4', 'dinov3', 'beit'])
def test_a_range_of_blocks_starts_anywhere(family):
    """Half-open ranges: 0..1 then 1..3 is 0..3, and an empty one does nothing."""
    anchor, images = make_anchor(family), native_images(family)
    tokens, grid = anchor.embed(images)
    assert torch.equal(anchor.run(tokens, 2, 2, grid), tokens)
    assert torch.equal(features(anchor, images, [1, 3])[-1], features(anchor, images, [3])[-1])


@torch.no_grad()
@pytest.mark.parametrize('family', FAMILIES)
def test_pads_with_zeros_to_whole_patches(family):
    anchor = make_anchor(family)
    height, width = FAMILIES[family]['img_size']
    images = toy_images(height - 3, width - 5)
    padded = F.pad(images, (0, 5, 0, 3))
    assert_same(features(anchor, images), features(anchor, padded))


@pytest.mark.parametrize('size', [(15, 48), (32, 15)])
def test_refuses_images_smaller_than_a_patch(size):
    with pytest.raises(ValueError, match=f'{size[0]}x{size[1]} is smaller than a patch of 16x16'):
        make_anchor('deit3').embed(toy_images(*size))


def output_and_gradients(anchor: Anchor, images: Tensor) -> tuple[Tensor, dict[str, Tensor], int]:
    """The last map, all gradients, and how often a block ran."""
    runs = 0

    def count(*_) -> None:
        nonlocal runs
        runs += 1

    anchor.train().blocks[1].register_forward_pre_hook(count)
    torch.manual_seed(0)  # of drop path
    output = features(anchor, images, [DEPTH])[-1]
    output.square().mean().backward()
    return output, {name: parameter.grad for name, parameter in anchor.named_parameters()}, runs


@pytest.mark.parametrize('family', FAMILIES)
def test_checkpointing_changes_neither_outputs_nor_gradients(family):
    kwargs = {'drop_path_rate': 0.5}
    images = native_images(family, batch=4)
    output, gradients, runs = output_and_gradients(make_anchor(family, **kwargs), images)
    again, recomputed, more_runs = output_and_gradients(make_anchor(family, with_cp=True, **kwargs), images)
    assert torch.equal(output, again)
    assert gradients.keys() == recomputed.keys()
    for name, gradient in gradients.items():
        assert gradient is not None, name
        torch.testing.assert_close(recomputed[name], gradient, msg=name)
    assert (runs, more_runs) == (1, 2)


@torch.no_grad()
@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit'])
def test_drop_path_acts_in_training_only(family):
    anchor, plain = make_anchor(family, drop_path_rate=0.9), make_anchor(family)
    images = native_images(family, batch=4)
    assert torch.equal(features(anchor, images)[-1], features(plain, images)[-1])
    anchor.train()
    torch.manual_seed(0)
    assert not torch.equal(features(anchor, images)[-1], features(plain, images)[-1])


@torch.no_grad()
@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit', 'sam'])
def test_constant_drop_path_is_that_of_every_block(family):
    images = native_images(family, batch=64)
    anchor, plain = make_anchor(family, constant_drop_path=0.9), make_anchor(family)
    assert torch.equal(features(anchor, images)[-1], features(plain, images)[-1])
    anchor.train()
    torch.manual_seed(0)
    tokens, grid = anchor.embed(images)
    for index in range(DEPTH):
        changed = (anchor.run(tokens, index, index + 1, grid) != tokens).flatten(1).any(1)
        # Each half of a block runs for an image in ten: one or both run for a fifth of them.
        assert 0.01 < changed.float().mean() < 0.5


@pytest.mark.parametrize('family', ['beit', 'beit-shared', 'dinov3', 'rope-mixed', 'sam'])
def test_trains_after_inference_mode(family):
    anchor = make_anchor(family)
    images = toy_images(48, 96 if family == 'beit-shared' else 112)  # sizes of no other test
    with torch.inference_mode():
        features(anchor, images)
    features(anchor, images)[-1].sum().backward()


@torch.no_grad()
@pytest.mark.parametrize('family', ['rope-mixed', 'rope-mixed-ape'])
def test_learnt_rotary_embeddings_follow_their_parameters(family):
    """Also those that are changed behind autograd's back, as averages of weights are swapped."""
    anchor, images = make_anchor(family), native_images(family)
    before = features(anchor, images)[-1]
    anchor.rope.freqs.data.copy_(anchor.rope.freqs.data + 1)
    weights = anchor.state_dict()
    assert not torch.equal(features(anchor, images)[-1], before)
    assert_same(features(anchor, images), expected_features(family, weights, images))


@torch.no_grad()
def test_rotary_embeddings_are_drawn_anew_where_training_augments_them():
    anchor = make_anchor('dinov3', rope_rescale_coords=2.0)
    draws = [anchor.train(mode).position((2, 3)) for mode in (True, True, False, False)]
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(draws[2], draws[3])


# Weights


@pytest.mark.parametrize('family', ['deit3', 'eva02', 'beit'])
def test_loads_a_local_file(tmp_path, family):
    arguments = toy_anchor(family, DEPTH)
    vit = randomise(toy_vit(family, DEPTH), seed=5)
    torch.save(vit.state_dict(), tmp_path / 'weights.pth')
    overlay = {'file': str(tmp_path / 'weights.pth')}
    weights = create_anchor(**arguments, pretrained=True, pretrained_cfg_overlay=overlay).state_dict()
    given = vit.state_dict()
    assert weights
    assert all(torch.equal(value, given[key]) for key, value in weights.items())


def test_loads_deit3_s_released_format(tmp_path):
    """Payload under ``model``, LayerScale named ``gamma_1`` and ``gamma_2``."""
    arguments = toy_anchor('deit3', DEPTH)
    vit = randomise(toy_vit('deit3', DEPTH), seed=5)
    released = {
        key.replace('ls1.gamma', 'gamma_1').replace('ls2.gamma', 'gamma_2'): value
        for key, value in vit.state_dict().items()
    }
    torch.save({'model': released}, tmp_path / 'weights.pth')
    overlay = {'file': str(tmp_path / 'weights.pth')}
    anchor = create_anchor(**arguments, pretrained=True, pretrained_cfg_overlay=overlay)
    assert torch.equal(anchor.blocks[2].ls1.gamma, vit.blocks[2].ls1.gamma)
    assert torch.equal(anchor.pos_embed, vit.pos_embed)


@pytest.mark.parametrize(
    'arguments',
    [{'pretrained': True, 'pretrained_cfg_overlay': {'file': 'no/such.pth'}}, {'checkpoint_path': 'no/such.pth'}],
)
def test_refuses_a_missing_file(arguments):
    with pytest.raises(FileNotFoundError, match=r"no weight file 'no/such\.pth' for anchor 'deit3_small_patch16_224'"):
        create_anchor(**toy_anchor('deit3'), **arguments)


def test_refuses_weights_of_another_shape(tmp_path):
    torch.save(toy_vit('deit3', width=32).state_dict(), tmp_path / 'weights.pth')
    overlay = {'file': str(tmp_path / 'weights.pth')}
    with pytest.raises(ValueError, match=r"(?s)timm cannot create anchor 'deit3_small_patch16_224'.*local file"):
        create_anchor(**toy_anchor('deit3', width=16), pretrained=True, pretrained_cfg_overlay=overlay)


# Models that are no anchors


@pytest.mark.parametrize(
    ('model', 'arguments', 'message'),
    [
        ('no_such_vit', {}, "cannot create anchor 'no_such_vit'"),
        ('deit3_small_patch16_224', {'heads': 3}, "cannot create anchor.*'heads': 3"),
        ('resnet10t', {}, "cannot stitch timm's ResNet.*VisionTransformer, VisionTransformerSAM, Eva, Beit"),
        ('deit_tiny_distilled_patch16_224', {'embed_dim': 12, 'depth': 1}, 'VisionTransformerDistilled'),
        ('vit_small_patch16_224', {'embed_dim': 12, 'depth': 1, 'patch_drop_rate': 0.5}, 'patch_drop_rate'),
        ('vit_small_patch16_224', {'embed_dim': 12, 'depth': 1, 'constant_drop_path': 1.0}, 'must be below 1, got 1.0'),
        ('vit_small_patch16_224', {'embed_dim': 12, 'depth': 1, 'constant_drop_path': -1}, '0 or more, got -1'),
    ],
)
def test_refuses(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        create_anchor(model, **arguments)


def test_refuses_another_patch_embedding():
    class Stem(nn.Identity):
        """Of a hybrid model."""

    vit = VisionTransformer(img_size=32, embed_dim=12, depth=1, num_heads=2)
    vit.patch_embed = Stem()
    with pytest.raises(ValueError, match=r"timm's PatchEmbed.*Stem"):
        wrap_vit(vit)


@pytest.mark.parametrize(
    ('first', 'second', 'message'),
    [
        ('deit3', 'beit', 'class: VisionTransformer and Beit'),
        ('dinov2', 'deit3', r'patch size: \(14, 14\) and \(16, 16\)'),
        ('augreg', 'siglip', r'prefix tokens .*: 1 and 0'),
        ('dinov2', 'dinov2-reg4', r'prefix tokens .*: 1 and 5'),
    ],
)
def test_refuses_anchors_that_cannot_be_stitched(first, second, message):
    anchors = [make_anchor(first), make_anchor(first), make_anchor(second)]
    check_compatible(anchors[:2])
    with pytest.raises(ValueError, match=f'anchors 0 and 2 cannot be stitched, they differ in .*{message}'):
        check_compatible(anchors)
