"""Tasks: what a model predicts, asked of images alone, without data and without post-processing.

This is where the package tells segmentors, depth estimators, detectors and classifiers apart.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.models.exits import PerExit


class Task:
    """A model of MMEngine's, such as a detector of one stage.

    Attributes:
        name: what such a model is called.
        has_logits: whether one tensor is what it predicts, so that it exports to a file of operators.
        output_name: what that tensor is called in such a file.
        note_on_cost: what to say beside GFLOPs.
        note_on_files: what to say beside a file of operators.
    """

    name: ClassVar[str] = 'model'
    has_logits: ClassVar[bool] = False
    output_name: ClassVar[str] = 'logits'
    note_on_cost: str = ''
    note_on_files: str = ''

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def outputs(self, images: Tensor) -> Any:
        """``mode='tensor'`` of the model on preprocessed images (B, 3, H, W)."""
        return self.model(images, _blank_samples(images), mode='tensor')

    def countable_outputs(self, images: Tensor, with_masks: bool = False) -> Any:
        """Outputs that depend on everything that counts as cost.

        Args:
            with_masks: let a detector of two stages predict masks of the first hundred regions too.
        """
        return self.outputs(images)

    def logits(self, images: Tensor) -> Tensor:
        """What the model predicts of images (B, 3, H, W).

        Raises:
            ValueError: it predicts more than one tensor.
        """
        raise UserError(
            'only segmentors, depth estimators and classifiers export to a file of operators, not '
            f'{type(self.model).__name__}'
        )


class Segmentation(Task):
    """Logits (B, classes, H, W)."""

    name = 'segmentor'
    has_logits = True

    def outputs(self, images: Tensor) -> Any:
        if _wants_samples(self.model.decode_head):
            # MMSegmentation's own 'tensor' mode gives a head nothing but the features.
            return self.model.decode_head(self.model.extract_feat(images), _blank_samples(images))
        return super().outputs(images)

    @property
    def mode(self) -> str:
        """How images are tested: ``'whole'``, or in windows: ``'slide'``, ``'slide_flip'``."""
        return (getattr(self.model, 'test_cfg', None) or {}).get('mode', 'whole')

    @property
    def note_on_files(self) -> str:
        if self.mode == 'whole':
            return ''
        return f'A file predicts one window; it cuts no image into windows, as mode={self.mode!r} of test_cfg does.'

    def logits(self, images: Tensor) -> Tensor:
        # Heads resize to the shape of the first image.
        return self.model.encode_decode(images, [{'img_shape': tuple(images.shape[2:])}])


class Depth(Segmentation):
    """Depth (B, 1, H, W) in metres: ``outputs`` as the head gives it, ``logits`` as it is predicted."""

    name = 'depth estimator'
    output_name = 'depth'

    @property
    def note_on_cost(self) -> str:
        if self.mode != 'slide_flip':
            return ''
        return "GFLOPs of one pass: mode='slide_flip' of test_cfg runs two for a window, one of them mirrored."

    @property
    def note_on_files(self) -> str:
        if self.mode != 'slide_flip':
            return super().note_on_files
        return (
            "A file predicts one window, as it is. mode='slide_flip' of test_cfg also predicts the mirrored window, "
            'and takes the mean of both: run the file twice for the same depth.'
        )


class TwoStageDetection(Task):
    """Regions that an RPN proposes, refined by a RoI head."""

    note_on_cost = 'GFLOPs with as many regions as may be proposed, and without the mask head.'

    def countable_outputs(self, images: Tensor, with_masks: bool = False) -> Any:
        """The number of regions depends on weights.

        Here the RoI head refines the maximum number of proposals, without masks, as the costs of ViTDet are published.
        """
        model = self.model
        features = model.extract_feat(images)
        proposals = [InstanceData(bboxes=_boxes(model.test_cfg.rpn.max_per_img, images)) for _ in images]
        roi_head = model.roi_head.head(features.exit) if isinstance(model.roi_head, PerExit) else model.roi_head
        with nullcontext() if with_masks else _without_masks(roi_head):
            return model.rpn_head(features), roi_head.forward(features, proposals, _blank_samples(images))


class Classification(Task):
    """Logits (B, classes)."""

    name = 'classifier'
    has_logits = True

    def logits(self, images: Tensor) -> Tensor:
        return self.model(images, mode='tensor')


def task_of(model: nn.Module) -> Task:
    """The task of a model of MMSegmentation, MMDetection or MMPretrain."""
    if hasattr(model, 'encode_decode'):
        # MMSegmentation's DepthEstimator is a segmentor that can average a prediction with its mirror image.
        return Depth(model) if hasattr(model, 'slide_flip_inference') else Segmentation(model)
    # Two-stage detectors that learn their proposals have no RPN, and a fixed number of regions.
    if getattr(getattr(model, 'test_cfg', None), 'rpn', None) and getattr(model, 'roi_head', None) is not None:
        return TwoStageDetection(model)
    return Classification(model) if getattr(model, 'head', None) is not None else Task(model)


def _wants_samples(head: nn.Module) -> bool:
    """Whether a head, such as Mask2Former's, takes samples beside the features."""
    head = head.anchors[0] if isinstance(head, PerExit) else head
    return 'batch_data_samples' in inspect.signature(head.forward).parameters


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
