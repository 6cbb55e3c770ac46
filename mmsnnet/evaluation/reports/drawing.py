"""Small pictures of what a model predicts of an image and of the truth, with the visualizers of OpenMMLab.

A data sample says of which task it is: ``pred_depth_map``, ``pred_sem_seg``, ``pred_instances`` or ``pred_score``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.fileio import get
from mmengine.structures import BaseDataElement, InstanceData
from mmengine.visualization import Visualizer
from torch.nn import functional

from mmsnnet.errors import UserError

# Pixels of the longest side.
LONGEST_SIDE = 320
# Of a detection that is shown.
MIN_SCORE = 0.3
# How many of a picture's classes are named, the likeliest.
TOP_CLASSES = 3


class Drawing(NamedTuple):
    """What there is to see.

    Attributes:
        image: RGB (h, w, 3), None where words say it all.
        text: what to write beside it.
    """

    image: np.ndarray | None
    text: str = ''


class Way(NamedTuple):
    """How to draw samples of a task: what they hold of predictions and, perhaps, of the truth."""

    prediction: str
    truth: str
    draw: Callable[['Canvas', BaseDataElement, str], Drawing]


@dataclass(frozen=True)
class Canvas:
    """An image, and how to draw all predictions of it alike.

    Attributes:
        image: RGB (h, w, 3).
        way: of its task.
        meta: the data set's ``classes`` and ``palette``.
        depths: the nearest and the farthest, in metres; None where the task is another.
    """

    image: np.ndarray
    way: Way
    meta: Mapping[str, Any]
    depths: tuple[float, float] | None = None

    @classmethod
    def of(cls, sample: BaseDataElement, meta: Mapping[str, Any]) -> 'Canvas':
        """That of the image file of a sample, which holds a prediction.

        Raises:
            ValueError: the sample names no file, or holds no prediction of a known task.
        """
        way = _way_of(sample)
        if sample.get('img_path') is None:
            raise UserError('pictures are made of image files, and this data set names none: leave --pictures out')
        image = cv2.imdecode(np.frombuffer(get(sample.img_path), np.uint8), cv2.IMREAD_COLOR)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return cls(rescale(image, LONGEST_SIDE), way, meta, _depths(sample))

    @classmethod
    def over(cls, image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any]) -> 'Canvas':
        """That of an RGB image (h, w, 3) in memory, of a task and depths as in a sample of it.

        Raises:
            ValueError: the sample holds no prediction of a known task.
        """
        return cls(image, _way_of(sample), meta, _depths(sample))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[:2]

    @property
    def legend(self) -> dict[str, str]:
        """Colours of classes, as ``#rrggbb``; empty where classes are not shown by colour."""
        if self.way.draw is not draw_segmentation:
            return {}
        colours = ['#' + bytes(colour).hex() for colour in self.meta['palette']]
        return dict(zip(self.meta['classes'], colours, strict=True))

    def draw_prediction(self, sample: BaseDataElement) -> Drawing:
        """What a model says of the image."""
        return self.way.draw(self, sample, 'pred')

    def draw_truth(self, sample: BaseDataElement) -> Drawing | None:
        """What the data set says of the image, None if nothing."""
        return self.way.draw(self, sample, 'gt') if self.way.truth in sample else None

    def name(self, label: int) -> str:
        """Of a class."""
        classes = self.meta.get('classes')
        return classes[label] if classes else f'class {label}'

    @cached_property
    def detection_visualizer(self) -> Visualizer:
        from mmdet.visualization import DetLocalVisualizer

        # It takes colours as tuples, and chooses them where a data set has too few.
        palette = [tuple(colour) for colour in self.meta.get('palette') or ()]
        has_all = len(palette) >= len(self.meta.get('classes', ()))
        visualizer = DetLocalVisualizer(line_width=2, alpha=0.5)
        visualizer.dataset_meta = {**self.meta, 'palette': palette if has_all else None}
        return visualizer


def _way_of(sample: BaseDataElement) -> Way:
    for way in WAYS:
        if way.prediction in sample:
            return way
    raise UserError(
        f'pictures are drawn of {", ".join(way.prediction for way in WAYS)}, and this model predicts '
        f'{", ".join(sample.keys()) or "nothing"}: leave --pictures out'
    )


def rescale(image: np.ndarray, longest_side: int, interpolation: str = 'bilinear') -> np.ndarray:
    """An image (h, w, 3) whose longest side has so many pixels."""
    # Only pictures need mmcv: importing mmsnnet must not import it.
    import mmcv

    return mmcv.imrescale(image, (longest_side, longest_side), interpolation=interpolation)


def draw_depth(canvas: Canvas, sample: BaseDataElement, side: str) -> Drawing:
    """Metres as colours, in viridis; black where there is no depth."""
    depth = _depth_map(sample, side)
    near, far = canvas.depths
    shares = np.nan_to_num(depth - near) / max(far - near, 1e-6)
    colours = cv2.applyColorMap(np.uint8(255 * shares.clip(0, 1)), cv2.COLORMAP_VIRIDIS)[..., ::-1].copy()
    colours[~_is_depth(depth)] = 0
    height, width = canvas.size
    image = cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)
    # Beside the truth, or else the prediction: the scale is the same.
    is_first = side == 'gt' or 'gt_depth_map' not in sample
    return Drawing(image, f'{near:.3g} m (dark) .. {far:.3g} m (bright)' if is_first else '')


def draw_segmentation(canvas: Canvas, sample: BaseDataElement, side: str) -> Drawing:
    """Classes in the colours of the data set's palette; black where the truth does not count."""
    labels = sample.get(f'{side}_sem_seg').data
    labels = functional.interpolate(labels[None].float(), canvas.size, mode='nearest-exact')[0, 0].long().cpu().numpy()
    palette = canvas.meta['palette']
    # 255 is what does not count.
    colours = np.zeros((max(256, len(palette)), 3), np.uint8)
    colours[: len(palette)] = palette
    return Drawing(colours[labels])


def draw_instances(canvas: Canvas, sample: BaseDataElement, side: str) -> Drawing:
    """Boxes, class names and masks; of predictions those with a score above ``MIN_SCORE``."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import get_box_tensor

    instances = sample.get(f'{side}_instances').cpu()
    scores = instances.get('scores', torch.ones(len(instances.labels)))
    is_shown = scores > MIN_SCORE
    instances = instances[is_shown]
    (height, width), (old_height, old_width) = canvas.size, sample.ori_shape[:2]
    scale = torch.tensor([width / old_width, height / old_height] * 2)
    shown = InstanceData(labels=instances.labels, bboxes=get_box_tensor(instances.bboxes) * scale)
    if 'masks' in instances:
        shown.masks = _resized_masks(instances.masks, canvas.size)
    if side == 'pred':
        shown.scores = instances.scores
    visualizer = canvas.detection_visualizer
    visualizer.add_datasample(
        '',
        canvas.image,
        DetDataSample(**{f'{side}_instances': shown}),
        draw_gt=side == 'gt',
        draw_pred=side == 'pred',
        pred_score_thr=MIN_SCORE,
    )
    return Drawing(visualizer.get_image())


def draw_classes(canvas: Canvas, sample: BaseDataElement, side: str) -> Drawing:
    """The likeliest classes with their scores, or the true ones."""
    if side == 'gt':
        return Drawing(None, ', '.join(canvas.name(label) for label in sample.gt_label.tolist()))
    scores, labels = sample.pred_score.topk(min(TOP_CLASSES, len(sample.pred_score)))
    pairs = zip(labels.tolist(), scores.tolist(), strict=True)
    return Drawing(None, ', '.join(f'{canvas.name(label)} {score:.2f}' for label, score in pairs))


WAYS = (
    Way('pred_depth_map', 'gt_depth_map', draw_depth),
    Way('pred_sem_seg', 'gt_sem_seg', draw_segmentation),
    Way('pred_instances', 'gt_instances', draw_instances),
    Way('pred_score', 'gt_label', draw_classes),
)


def _depths(sample: BaseDataElement) -> tuple[float, float] | None:
    """The nearest and the farthest depth of the truth, or else of the prediction."""
    if 'pred_depth_map' not in sample:
        return None
    depth = _depth_map(sample, 'gt' if 'gt_depth_map' in sample else 'pred')
    known = depth[_is_depth(depth)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def _depth_map(sample: BaseDataElement, side: str) -> np.ndarray:
    """Metres (H, W)."""
    # NumPy does not know bfloat16.
    return torch.as_tensor(sample.get(f'{side}_depth_map').data).cpu().float().numpy().squeeze(0)


def _is_depth(depth: np.ndarray) -> np.ndarray:
    return np.isfinite(depth) & (depth > 0)


def _resized_masks(masks: Any, size: tuple[int, int]) -> Any:
    """MMDetection's masks of a truth, or a tensor (n, H, W) of a prediction, at another size."""
    from mmdet.structures.mask import BitmapMasks

    if isinstance(masks, torch.Tensor):
        masks = BitmapMasks(masks.numpy().astype(np.uint8), *masks.shape[1:])
    return masks.resize(size)
