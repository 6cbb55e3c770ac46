"""MMDetection's boxes are as precise under mixed precision as without."""

import importlib

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmsnnet.compat import install

install()

HALF = [torch.float16, torch.bfloat16]
SIDE = 1280


@pytest.fixture(autouse=True)
def _mmdet():
    importlib.import_module('mmdet.models')
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def rpn() -> nn.Module:
    from mmdet.models import RPNHead

    torch.manual_seed(0)
    head = RPNHead(
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[16, 32, 64]),
        test_cfg=ConfigDict(nms_pre=200, max_per_img=100, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
    )
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.2)
    return head.eval()


def levels() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 8, SIDE // stride, SIDE // stride, generator=generator) for stride in (16, 32, 64)]


@torch.no_grad()
@pytest.mark.parametrize('dtype', HALF)
def test_proposals_are_decoded_in_float32(rpn, dtype):
    """The head computes in half precision. What follows does not."""
    with torch.autocast('cpu', dtype):
        outputs = rpn(levels())
    assert outputs[0][0].dtype == dtype
    meta = [{'img_shape': (SIDE, SIDE), 'scale_factor': (1.0, 1.0)}]
    with torch.autocast('cpu', dtype):
        (found,) = rpn.predict_by_feat(*outputs, batch_img_metas=meta)
    (expected,) = rpn.predict_by_feat(*[[x.float() for x in output] for output in outputs], batch_img_metas=meta)
    assert len(found) == 100
    assert found.bboxes.dtype == torch.float32
    torch.testing.assert_close(found.bboxes, expected.bboxes)


@torch.no_grad()
@pytest.mark.parametrize('dtype', HALF)
def test_regions_are_pooled_from_the_level_of_their_size(dtype):
    """A region of 300x300 has more area than float16 holds, and belongs to the third level."""
    from mmdet.models import SingleRoIExtractor

    layer = dict(type='RoIAlign', output_size=2, sampling_ratio=0)
    extractor = SingleRoIExtractor(layer, out_channels=1, featmap_strides=[4, 8, 16, 32])
    features = [
        torch.full((1, 1, SIDE // stride, SIDE // stride), float(level), dtype=dtype)
        for level, stride in enumerate((4, 8, 16, 32))
    ]
    sides = torch.tensor([100.0, 200, 300, 440, 460])
    rois = torch.stack([torch.zeros(5), *[torch.full((5,), 700.0)] * 2, 700 + sides, 700 + sides], dim=1)
    pooled = extractor(features, rois)
    assert pooled.dtype == dtype
    assert pooled[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 3]


@torch.no_grad()
@pytest.mark.parametrize('dtype', HALF)
def test_regions_keep_their_place(dtype):
    """A ramp's value is where it was pooled."""
    from mmdet.models import SingleRoIExtractor

    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=1), out_channels=1, featmap_strides=[1])
    ramp = torch.arange(SIDE, dtype=torch.float32).expand(1, 1, 64, SIDE) / SIDE
    rois = torch.tensor([[0, 1001.0, 10, 1011.0, 20]])
    found = extractor([ramp.to(dtype)], rois).float()
    torch.testing.assert_close(found, extractor([ramp.to(dtype).float()], rois), rtol=torch.finfo(dtype).eps, atol=0)
