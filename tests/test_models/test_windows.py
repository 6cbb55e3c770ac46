"""Plain ViTs with windows: timm's windowed model of their weights, and equal to them where no window cuts anything."""

import pytest
import torch
from torch import Tensor
from toys import randomise, toy_anchor, toy_images, toy_vit

from mmsnnet.models import Anchor, create_anchor
from mmsnnet.models.flop_counter import shapes_of
from mmsnnet.models.windows import to_windowed

PLAIN = ['deit3', 'dinov2', 'dinov2-reg4', 'augreg', 'clip', 'siglip']


def make(family: str = 'deit3', depth: int = 4, **windowed) -> Anchor:
    arguments = {'window_size': 2, 'img_size': (32, 48), **windowed}
    return create_anchor(**toy_anchor(family, depth), windowed=arguments).eval()


def last_map(anchor: Anchor, images: Tensor) -> Tensor:
    tokens, grid = anchor.embed(images)
    return anchor.to_map(anchor.run(tokens, 0, anchor.depth, grid), grid)


@torch.no_grad()
@pytest.mark.parametrize('family', PLAIN)
def test_without_windows_equals_the_plain_vit_without_its_tokens(family):
    """Relative positions start at zero, and global blocks have no windows."""
    vit = randomise(toy_vit(family, 3, num_classes=0)).eval()
    height, width = vit.patch_embed.img_size
    images = toy_images(height, width)
    grid = vit.patch_embed.grid_size
    tokens = vit.patch_embed(images)
    if vit.pos_embed is not None:
        tokens = tokens + vit.pos_embed[:, -grid[0] * grid[1] :]
    tokens = vit.norm_pre(tokens)
    for block in vit.blocks:
        tokens = block(tokens)
    expected = tokens.transpose(1, 2).unflatten(2, grid)
    windowed = to_windowed(vit, global_attn_indexes=(0, 1, 2), img_size=(height, width))
    from mmsnnet.models.anchors import wrap_vit

    torch.testing.assert_close(last_map(wrap_vit(windowed.eval()), images), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_windows_see_nothing_of_each_other():
    """A window's output is that of an image which it fills alone."""
    anchor = randomise(make(global_attn_indexes=()))
    anchor.pos_embed.zero_()
    images = toy_images(64, 64)
    whole = last_map(anchor, images)
    for row in range(2):
        for column in range(2):
            part = images[..., 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            torch.testing.assert_close(
                whole[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2], last_map(anchor, part)
            )


@torch.no_grad()
def test_one_global_block_lets_windows_see_each_other():
    anchor = randomise(make(global_attn_indexes=(1,)))
    images = toy_images(64, 64)
    changed = images.clone()
    changed[..., :16, :16] += 1
    assert (last_map(anchor, images) - last_map(anchor, changed))[..., 3, 3].abs().max() > 0


@torch.no_grad()
def test_relative_positions_matter_and_can_be_left_out():
    anchor = make()
    images = toy_images()
    before = last_map(randomise(anchor), images)
    for block in anchor.blocks:
        block.attn.rel_pos_h.zero_()
        block.attn.rel_pos_w.zero_()
    assert not torch.allclose(before, last_map(anchor, images))
    without = make(use_rel_pos=False)
    without.load_state_dict({key: value for key, value in anchor.state_dict().items() if 'rel_pos' not in key})
    torch.testing.assert_close(last_map(anchor, images), last_map(without, images), rtol=1e-5, atol=1e-5)


def test_tables_of_relative_positions_have_the_sizes_of_windows_and_image():
    anchor = make(window_size=3, global_attn_indexes=(3,), img_size=(64, 96))
    sizes = [(len(block.attn.rel_pos_h), len(block.attn.rel_pos_w)) for block in anchor.blocks]
    assert sizes == [(5, 5)] * 3 + [(7, 11)]
    assert all(not table.any() for block in anchor.blocks for table in (block.attn.rel_pos_h, block.attn.rel_pos_w))


@pytest.mark.parametrize(
    ('depth', 'expected'), [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (3, (0, 1, 2)), (6, (1, 2, 4, 5))]
)
def test_the_last_block_of_each_quarter_is_global_by_default(depth, expected):
    vit = to_windowed(toy_vit('deit3', depth))
    assert tuple(index for index, block in enumerate(vit.blocks) if block.window_size == 0) == expected


@torch.no_grad()
@pytest.mark.parametrize('size', [(16, 16), (32, 48), (48, 80), (50, 70), (160, 16)])
def test_any_image_size(size):
    """Maps are padded to whole windows, images to whole patches."""
    output = last_map(randomise(make(window_size=3)), toy_images(*size))
    assert output.shape == (2, 16, -(-size[0] // 16), -(-size[1] // 16))
    assert output.isfinite().all()


def test_layer_scale_and_drop_path_come_along():
    anchor = create_anchor(**toy_anchor('deit3', 3, drop_path_rate=0.4), windowed={})
    assert [block.ls1.gamma.shape for block in anchor.blocks] == [(16,)] * 3
    assert anchor.blocks[2].drop_path1.drop_prob == pytest.approx(0.4)


def test_gradients_reach_every_parameter():
    anchor = randomise(make()).train()
    last_map(anchor, toy_images()).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in anchor.parameters())


@pytest.mark.parametrize('family', ['deit3', 'dinov2'])
def test_loads_weights_of_the_plain_model(tmp_path, family):
    vit = randomise(toy_vit(family, 3), seed=5)
    torch.save(vit.state_dict(), tmp_path / 'weights.pth')
    overlay = {'file': str(tmp_path / 'weights.pth')}
    arguments = toy_anchor(family, 3, pretrained=True, pretrained_cfg_overlay=overlay)
    anchor = create_anchor(**arguments, windowed={'window_size': 2})
    given = vit.state_dict()
    for name, value in anchor.state_dict().items():
        if name == 'pos_embed':
            grid = anchor.grid_size
            assert torch.equal(value.flatten(1, 2), given[name][:, -grid[0] * grid[1] :])
        elif 'rel_pos' not in name:
            assert torch.equal(value, given[name]), name


def test_blocks_with_and_without_windows_differ_in_cost():
    """Also where their parameters have equal shapes."""
    first, second = make(depth=2, use_rel_pos=False, global_attn_indexes=(1,)).blocks
    assert shapes_of(first) != shapes_of(second)


@pytest.mark.parametrize(
    ('family', 'windowed', 'message'),
    [
        ('deit3', {'global_attn_indexes': (2, 9)}, 'global_attn_indexes has 9, but the blocks are 0..3'),
        ('deit3', {'window': 7}, "an anchor's 'windowed' cannot have .*'window': 7"),
        ('beit', {}, "only timm's VisionTransformer can be given windows, got Beit"),
        ('sam', {}, 'got VisionTransformerSAM'),
    ],
)
def test_refuses_what_cannot_have_windows(family, windowed, message):
    with pytest.raises(ValueError, match=message):
        make(family, **windowed)
