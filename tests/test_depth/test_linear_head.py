"""``LinearDepthHead`` is the published linear protocol."""

import pytest
import torch
import torch.nn.functional as F
from toy_depth import HEADS, WIDTH, depth_samples, levels, parameters_without_gradient
from toys import randomise

from mmsnnet.depth import LinearDepthHead
from mmsnnet.errors import UserError

DINOV2 = dict(readout='concat', norm_cfg=None, upsample=4)


def dinov2(head: LinearDepthHead, given: list) -> torch.Tensor:
    """Depth as DINOv2 computes it: features are concatenated, resized and mixed."""
    index = head.in_index if isinstance(head.in_index, list | tuple) else [head.in_index]
    parts = [part for i in index for part in (given[i][0], given[i][1][:, :, None, None].expand_as(given[i][0]))]
    features = F.interpolate(torch.cat(parts, 1), scale_factor=4.0, mode='bilinear')
    weights = torch.relu(head.conv_depth(features)) + 0.1
    bins = torch.linspace(head.min_depth, head.max_depth, weights.shape[1])
    return torch.einsum('bkhw,k->bhw', weights / weights.sum(1, keepdim=True), bins).unsqueeze(1)


@pytest.mark.parametrize('in_index', [-1, (0, 1, 2, 3), [1, 3]], ids=str)
def test_is_dinov2_s_formula(in_index):
    head, given = randomise(HEADS['linear'](in_index=in_index, **DINOV2)).eval(), levels(3, (3, 5))
    depth = head(given)
    assert depth.shape == (3, 1, 12, 20)
    torch.testing.assert_close(depth, dinov2(head, given))


@pytest.mark.parametrize('batch', [1, 2, 3])
def test_by_default_it_reads_the_last_map_alone_through_a_batch_norm(batch):
    head, given = randomise(HEADS['linear']()).eval(), levels(batch)
    depth = head(given)
    assert depth.shape == (batch, 1, 4, 5)
    assert torch.equal(head([map_ for map_, _ in given]), depth)
    assert torch.equal(head(given[3:]), depth)
    head.norm.running_mean.fill_(1.0)
    torch.testing.assert_close(head([[map_ + 1, token] for map_, token in given]), depth)


def test_depth_lies_between_the_limits_and_starts_in_their_middle():
    head = LinearDepthHead(WIDTH, min_depth=1.0, max_depth=3.0)
    head.init_weights()
    depth = head(levels())
    torch.testing.assert_close(depth, torch.full_like(depth, 2.0), atol=0.1, rtol=0)
    extreme = randomise(head)([[100 * map_, token] for map_, token in levels()])
    assert extreme.min() >= 1.0
    assert extreme.max() <= 3.0


@pytest.mark.parametrize('settings', [{}, DINOV2], ids=['dinov3', 'dinov2'])
def test_the_loss_trains_every_parameter(settings):
    head = HEADS['linear'](**settings)
    (loss,) = head.loss_by_feat(head(levels()), depth_samples(2, (32, 40))).values()
    assert parameters_without_gradient(head, loss) == []


def test_half_precision_is_not_the_resolution_of_depth():
    head = randomise(HEADS['linear']()).eval()
    with torch.autocast('cpu', torch.bfloat16):
        depth = head(levels())
    assert depth.dtype == torch.float32
    assert depth.bfloat16().float().ne(depth).any()


def test_bins_are_no_weights():
    """So that a checkpoint does not decide the limits of depth."""
    assert sorted(HEADS['linear'](norm_cfg=None).state_dict()) == [
        'conv_depth.bias', 'conv_depth.weight', 'loss_decode.iterations'
    ]  # fmt: skip


@pytest.mark.parametrize('batch', [1, 2])
def test_refuses_levels_without_class_token(batch):
    with pytest.raises(UserError, match=r"readout='concat' reads the class token.*output_cls_token=True"):
        HEADS['linear'](**DINOV2)([map_ for map_, _ in levels(batch)])


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(readout='project'), "readout must be one of 'concat', 'ignore', got 'project'"),
        (dict(num_bins=1), 'num_bins must be a whole number, 2 or more'),
        (dict(upsample=0), 'upsample must be a whole number, 1 or more'),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(UserError, match=message):
        HEADS['linear'](**settings)
