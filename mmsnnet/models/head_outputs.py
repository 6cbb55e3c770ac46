"""What the heads of an MMEngine model compute from images alone, without data and without post-processing."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from mmsnnet.models.exits import PerExit


def head_outputs(model: nn.Module, images: Tensor) -> Any:
    """``mode='tensor'`` of a segmentor or detector on preprocessed images (B, 3, H, W)."""
    if _wants_samples(getattr(model, 'decode_head', None)):
        # MMSegmentation's own 'tensor' mode gives a head nothing but the features.
        return model.decode_head(model.extract_feat(images), _blank_samples(images))
    return model(images, _blank_samples(images), mode='tensor')


def countable_outputs(model: nn.Module, images: Tensor, with_masks: bool = False) -> Any:
    """Outputs that depend on everything that counts as cost.

    These are the outputs of ``head_outputs``, except for two-stage detectors: the number of regions
    that they refine depends on their weights. Here they refine the maximum number of proposals, without masks, as the
    costs of ViTDet are published.

    Args:
        with_masks: let a two-stage detector predict masks of the first hundred regions too.
    """
    # Two-stage detectors that learn their proposals have no RPN, and a fixed number of regions.
    if not getattr(getattr(model, 'test_cfg', None), 'rpn', None) or getattr(model, 'roi_head', None) is None:
        return head_outputs(model, images)
    features = model.extract_feat(images)
    proposals = [InstanceData(bboxes=_boxes(model.test_cfg.rpn.max_per_img, images)) for _ in images]
    roi_head = model.roi_head.head(features.exit) if isinstance(model.roi_head, PerExit) else model.roi_head
    with nullcontext() if with_masks else _without_masks(roi_head):
        return model.rpn_head(features), roi_head.forward(features, proposals, _blank_samples(images))


def _wants_samples(head: nn.Module | None) -> bool:
    """Whether a head, such as Mask2Former's, takes samples beside the features."""
    head = head.anchors[0] if isinstance(head, PerExit) else head
    return head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters


def _blank_samples(images: Tensor) -> list[BaseDataElement]:
    """Meta information that detectors need: nothing was resized."""
    shape = tuple(images.shape[-2:])
    meta = {'img_shape': shape, 'ori_shape': shape, 'pad_shape': shape, 'batch_input_shape': shape}
    samples = [BaseDataElement(metainfo={**meta, 'scale_factor': (1.0, 1.0)}) for _ in images]
    for sample in samples:
        # Some heads look for ground truth even where they do not train.
        sample.gt_instances = InstanceData()
    return samples


def _boxes(count: int, images: Tensor) -> Tensor:
    """Boxes (count, 4), each the whole image: the cost does not depend on what they show."""
    height, width = images.shape[-2:]
    return torch.tensor([0, 0, width, height], dtype=images.dtype, device=images.device).repeat(count, 1)


@contextmanager
def _without_masks(roi_head: nn.Module) -> Iterator[None]:
    mask_head = getattr(roi_head, 'mask_head', None)
    roi_head.mask_head = None
    try:
        yield
    finally:
        roi_head.mask_head = mask_head
