"""A batch of blank images with blank ground truth, on which any model of a known task computes its loss."""

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

from mmsnnet.models.tasks import Depth, task_of


def blank_batch(
    model: nn.Module,
    batch_size: int,
    input_shape: tuple[int, int],
    device: torch.device | str,
    boxes_per_side: int = 10,
) -> tuple[Tensor, list[BaseDataElement]]:
    """Preprocessed images (B, 3, H, W) and a sample with ground truth for each. All pixels are of class 0, and
    one metre away.

    Args:
        input_shape: (height, width).
        boxes_per_side: a detector's objects, all of class 0, lie in a grid with this many rows and columns. 100 objects
            are as many as in COCO's most crowded images. From fewer objects, a detector may sample fewer regions.
    """
    images = torch.zeros(batch_size, 3, *input_shape, device=device)
    boxes = _boxes(input_shape, boxes_per_side, device)
    masks = _blank_masks(len(boxes), input_shape) if _has_mask_head(model) else None
    samples = [_sample(input_shape, boxes, masks) for _ in images]
    if isinstance(task_of(model), Depth):
        for sample in samples:
            sample.gt_depth_map = PixelData(data=torch.ones(1, *input_shape, device=device))
    return images, samples


def _sample(shape: tuple[int, int], boxes: Tensor, masks: object) -> BaseDataElement:
    meta = {'img_shape': shape, 'ori_shape': shape, 'pad_shape': shape, 'batch_input_shape': shape}
    sample = BaseDataElement(metainfo={**meta, 'scale_factor': (1.0, 1.0)})
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, *shape, dtype=torch.int64, device=boxes.device))
    sample.gt_label = torch.zeros(1, dtype=torch.int64, device=boxes.device)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=boxes.new_zeros(len(boxes), dtype=torch.int64))
    if masks is not None:
        sample.gt_instances.masks = masks
    return sample


def _boxes(shape: tuple[int, int], per_side: int, device: torch.device | str) -> Tensor:
    """The cells (per_side ** 2, 4) of a grid over the image."""
    height, width = (size / per_side for size in shape)
    rows, columns = (torch.arange(per_side, device=device) * size for size in (height, width))
    top, left = (corners.flatten() for corners in torch.meshgrid(rows, columns, indexing='ij'))
    return torch.stack([left, top, left + width, top + height], dim=1)


def _has_mask_head(model: nn.Module) -> bool:
    return any(name.endswith('mask_head') for name, _ in model.named_modules())


def _blank_masks(count: int, shape: tuple[int, int]) -> object:
    from mmdet.structures.mask import BitmapMasks

    return BitmapMasks(np.zeros((count, *shape), np.uint8), *shape)
