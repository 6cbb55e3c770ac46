"""``DPTDepthHead``: any grid and batch, what it reads, how it starts, and its published cost."""

import pytest
import torch
import torch.nn.functional as F
from toy_depth import HEADS, depth_samples, levels, parameters_without_gradient
from toys import randomise

from mmsnnet.depth import DPTDepthHead
from mmsnnet.errors import UserError
from mmsnnet.models.flop_counter import count_flops

# A pair of map and class token has two items, and so has a map of two images.
BATCHES = (1, 2, 3)


@pytest.mark.parametrize('readout', ['project', 'add', 'ignore'])
@pytest.mark.parametrize('grid', [(4, 5), (3, 3), (7, 5)], ids=str)
@pytest.mark.parametrize('batch', BATCHES)
def test_every_grid_and_batch_gives_depth_of_each_image_alone(readout, grid, batch):
    head = randomise(HEADS['dpt'](readout=readout)).eval()
    given = levels(batch, grid)
    depth = head(given)
    assert depth.shape == (batch, 1, *(32 * -(-size // 2) for size in grid))
    assert depth.min() >= head.min_depth
    assert depth.std() > 0
    for index in range(batch):
        torch.testing.assert_close(
            head([[part[index : index + 1] for part in level] for level in given]), depth[index : index + 1]
        )


@pytest.mark.parametrize('batch', BATCHES)
def test_ignored_class_tokens_may_be_missing(batch):
    head, given = HEADS['dpt'](readout='ignore').eval(), levels(batch)
    assert torch.equal(head([map_ for map_, _ in given]), head(given))


@pytest.mark.parametrize('readout', ['project', 'add'])
@pytest.mark.parametrize('index', range(4))
def test_depth_depends_on_every_map_and_class_token(readout, index):
    head, given = randomise(HEADS['dpt'](readout=readout)).eval(), levels()
    depth = head(given)
    for part in range(2):
        changed = [[value.clone() for value in level] for level in given]
        changed[index][part][0] += 1
        assert not torch.equal(head(changed)[0], depth[0])
        assert torch.equal(head(changed)[1], depth[1])


def test_the_depth_output_is_the_toolbox_s():
    """Corners stay corners where it doubles the size."""
    torch.manual_seed(0)
    head, fused = HEADS['dpt'](), torch.randn(2, 8, 3, 5)
    first, _, second, _, last = head.conv_depth
    doubled = F.interpolate(first(fused), (6, 10), mode='bilinear', align_corners=True)
    depth = F.relu(last(F.relu(second(doubled)))) + 1e-3
    assert (first.kernel_size, second.kernel_size, last.kernel_size) == ((3, 3), (3, 3), (1, 1))
    assert (first.out_channels, second.out_channels) == (4, 32)
    assert depth.std() > 0
    torch.testing.assert_close(head.cls_seg(fused), depth)


def test_the_loss_trains_every_parameter():
    head = HEADS['dpt']()
    (loss,) = head.loss_by_feat(head(levels()), depth_samples(2, (32, 40))).values()
    assert parameters_without_gradient(head, loss) == []


def test_depth_starts_above_its_minimum_with_every_seed():
    """Where the last ReLU is zero, nothing trains."""
    for seed in range(30):
        torch.manual_seed(seed)
        head = HEADS['dpt']()
        assert (head(levels(1, (2, 2), seed=seed)) > head.min_depth).all()


def test_cost_is_the_published_one():
    """SN-Netv2's DeiT3-L on 480x640: the ViT, the head, and a resize to the size that there is."""
    head = DPTDepthHead(1024).eval()
    maps, tokens = [torch.zeros(1, 1024, 2, 2)] * 4, [torch.zeros(1, 1024)] * 4
    flops = count_flops(lambda *parts: head(list(zip(parts[:4], parts[4:], strict=True))), head, *maps, *tokens)
    assert 434_825_625_600 + flops * 30 * 40 // 4 + 4 * 480 * 640 == 602_608_435_200


def test_the_fusion_takes_a_norm():
    head = HEADS['dpt'](norm_cfg=dict(type='BN'))
    norms = [module for module in head.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 4 * 4 - 2 + 1
    assert head(levels()).shape == (2, 1, 64, 96)


def test_mixed_precision_gives_depth_in_single_precision():
    """So that what follows, such as resizing to the image, does not round to centimetres again."""
    head, given = randomise(HEADS['dpt']()).eval(), levels()
    expected = head(given)
    with torch.autocast('cpu', torch.bfloat16):
        depth = head(given)
    assert depth.dtype == torch.float32
    assert depth.min() >= head.min_depth
    torch.testing.assert_close(depth, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('count', [3, 5])
def test_refuses_other_than_four_levels(count):
    with pytest.raises(UserError, match=rf'reads 4 levels, but {count} leave the backbone: give it 4 out_indices'):
        HEADS['dpt']()(levels(count=count))


@pytest.mark.parametrize('readout', ['project', 'add'])
@pytest.mark.parametrize('batch', BATCHES)
def test_refuses_levels_without_class_token(readout, batch):
    message = rf"readout='{readout}' reads the class token.*output_cls_token=True.*readout='ignore'"
    for given in ([map_ for map_, _ in levels(batch)], [[map_, None] for map_, _ in levels(batch)]):
        with pytest.raises(UserError, match=message):
            HEADS['dpt'](readout=readout)(given)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(in_channels=[8, 8, 8, 16]), 'a list of 4 equal ones'),
        (dict(in_channels=[8, 8]), 'a list of 4 equal ones'),
        (dict(readout='concat'), "readout must be one of 'project', 'add', 'ignore'"),
        (dict(post_process_channels=(4, 4)), 'post_process_channels must be 4 numbers'),
        (dict(min_depth=0), 'min_depth must be a number above 0'),
        (dict(max_depth=1e-4), 'max_depth must be a number above 0.001'),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(UserError, match=message):
        HEADS['dpt'](**settings)


@pytest.mark.parametrize('name', HEADS)
def test_predictions_are_resized_then_clamped(name):
    head = randomise(HEADS[name](max_depth=1.0)).eval()
    # Unclamped, so that the loss still pulls back what lies beyond the limit.
    depth = torch.tensor([[0.0, 4.0], [0.5, 2.0]]).expand(2, 1, 2, 2)
    expected = F.interpolate(depth, (6, 8), mode='bilinear').clamp(1e-3, 1)
    assert torch.equal(head.predict_by_feat(depth, [dict(img_shape=(6, 8))] * 2), expected)


@pytest.mark.parametrize('name', HEADS)
def test_the_loss_sees_depth_as_it_is_in_the_size_of_the_ground_truth(name):
    head, samples = HEADS[name](loss_decode=[dict(type='SigLoss')] * 2).eval(), depth_samples(2, (6, 8))
    depth = torch.rand(2, 1, 3, 4) * 30
    truth = torch.stack([sample.gt_depth_map.data for sample in samples])
    expected = head.loss_decode[0](F.interpolate(depth, (6, 8), mode='bilinear'), truth)
    losses = head.loss_by_feat(depth, samples)
    assert list(losses) == ['loss_sig']
    torch.testing.assert_close(losses['loss_sig'], 2 * expected)


def test_refuses_ground_truth_of_another_size():
    head, samples = HEADS['linear'](), depth_samples(2, (6, 8))
    for sample in samples:
        # MMSegmentation pads the right and lower border, ground truth alike.
        sample.set_metainfo(dict(img_shape=(5, 6), padding_size=(0, 2, 0, 1)))
    head.loss_by_feat(torch.ones(2, 1, 3, 4), samples)
    samples[1].set_metainfo(dict(img_shape=(6, 6), img_path='b.png'))
    with pytest.raises(UserError, match=r'b\.png is 7x8, but its depth map 6x8'):
        head.loss_by_feat(torch.ones(2, 1, 3, 4), samples)
