"""What changes from one route to another, in words."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from mmsnnet.demo.differences import describe_difference


def segmented(labels: list[int]) -> SegDataSample:
    return SegDataSample(pred_sem_seg=PixelData(data=torch.tensor([[labels]])))


def with_depth(metres: list[float]) -> SegDataSample:
    return SegDataSample(pred_depth_map=PixelData(data=torch.tensor([[metres]])))


def detected(*objects: tuple[float, int, float]) -> DetDataSample:
    """Boxes of 10 x 10 from a left edge, of a class, with a score."""
    boxes = torch.tensor([[left, 0, left + 10, 10] for left, _, _ in objects]).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in objects], dtype=torch.long)
    scores = torch.tensor([score for _, _, score in objects])
    return DetDataSample(pred_instances=InstanceData(bboxes=boxes, labels=labels, scores=scores))


@pytest.mark.parametrize(
    ('first', 'second', 'words'),
    [
        (segmented([0, 1, 2, 2]), segmented([0, 1, 1, 2]), '25.0% of the pixels have another class than with large.'),
        (
            with_depth([1, 2, 3, 4]),
            with_depth([1.05, 2, 2, 4]),
            'The depth of 25.0% of the pixels differs by more than',
        ),
        (
            DataSample(pred_score=torch.tensor([0.2, 0.8])),
            DataSample(pred_score=torch.tensor([0.4, 0.6])),
            'the same as',
        ),
        (
            DataSample(pred_score=torch.tensor([0.2, 0.8])),
            DataSample(pred_score=torch.tensor([0.7, 0.3])),
            'another than',
        ),
    ],
)
def test_what_differs(first, second, words):
    assert words in describe_difference(first, second, 'large')


@pytest.mark.parametrize(
    ('first', 'second', 'words'),
    [
        ([(0, 1, 0.9), (20, 1, 0.9)], [(1, 1, 0.8)], '2 objects, large finds 1; 1 are the same.'),
        # Another class, another place, not sure.
        (
            [(0, 1, 0.9), (20, 1, 0.9), (40, 1, 0.1)],
            [(0, 2, 0.9), (26, 1, 0.9), (40, 1, 0.9)],
            '2 objects, large finds 3; 0',
        ),
        # Two boxes have one partner.
        ([(0, 1, 0.9), (1, 1, 0.9)], [(0, 1, 0.9)], '2 objects, large finds 1; 1 are'),
        ([], [(0, 1, 0.9)], '0 objects, large finds 1; 0'),
    ],
)
def test_which_objects_are_the_same(first, second, words):
    assert describe_difference(detected(*first), detected(*second), 'large').startswith(words)
