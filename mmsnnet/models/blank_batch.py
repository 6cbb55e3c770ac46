"""A batch of blank images with blank ground truth, on which any segmentor or detector computes its loss."""

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

# The most crowded images of COCO have about as many objects.
BOXES_PER_SIDE = 10


def blank_batch(
    model: nn.Module, batch_size: int, input_shape: tuple[int, int], device: torch.device | str
) -> tuple[Tensor, list[BaseDataElement]]:
    """Preprocessed images (B, 3, H, W) and a sample with ground truth for each.

    All pixels are of class 0. A detector finds 100 objects of class 0 in a grid: it then samples about as many regions
    as it may.

    Args:
        input_shape: (height, width).
    """
    images = torch.zeros(batch_size, 3, *input_shape, device=device)
    masks = _blank_masks(input_shape) if _has_mask_head(model) else None
    return images, [_sample(input_shape, masks, device) for _ in images]


def _sample(shape: tuple[int, int], masks: object, device: torch.device | str) -> BaseDataElement:
    meta = {'img_shape': shape, 'ori_shape': shape, 'pad_shape': shape, 'batch_input_shape': shape}
    sample = BaseDataElement(metainfo={**meta, 'scale_factor': (1.0, 1.0)})
    sample.gt_sem_seg = PixelData(data=torch.zeros(1, *shape, dtype=torch.int64, device=device))
    boxes = _boxes(shape, device)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=boxes.new_zeros(len(boxes), dtype=torch.int64))
    if masks is not None:
        sample.gt_instances.masks = masks
    return sample


def _boxes(shape: tuple[int, int], device: torch.device | str) -> Tensor:
    """The cells (100, 4) of a grid over the image."""
    rows, columns = (torch.arange(BOXES_PER_SIDE, device=device) * size / BOXES_PER_SIDE for size in shape)
    top, left = (corners.flatten() for corners in torch.meshgrid(rows, columns, indexing='ij'))
    height, width = (size / BOXES_PER_SIDE for size in shape)
    return torch.stack([left, top, left + width, top + height], dim=1)


def _has_mask_head(model: nn.Module) -> bool:
    return any(name.endswith('mask_head') for name, _ in model.named_modules())


def _blank_masks(shape: tuple[int, int]) -> object:
    from mmdet.structures.mask import BitmapMasks

    return BitmapMasks(np.zeros((BOXES_PER_SIDE**2, *shape), np.uint8), *shape)
