"""Transforms of images with depth that MMSegmentation lacks, of the NYUv2 recipe."""

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmsnnet.errors import UserError
from mmsnnet.registry import TRANSFORMS, register
from mmsnnet.settings import check_list, check_number


@register(TRANSFORMS)
class CheckDepth(BaseTransform):
    """Refuses a depth map that does not belong to its image. It comes right after both are loaded.

    Required key: ``img`` (H, W, 3). It changes nothing. A picture without ``gt_depth_map`` passes: MMSegmentation's
    inferencer leaves out the step of a pipeline that loads it, and no other.

    Raises:
        UserError: while loading, a depth map with several channels, or of another size than its image.
    """

    def transform(self, results: dict) -> dict:
        """Check one sample."""
        if 'gt_depth_map' not in results:
            return results
        image, depth = results['img'], results['gt_depth_map']
        image_path, depth_path = results.get('img_path', 'the image'), results.get('depth_map_path', 'its depth map')
        if depth.ndim != 2:
            raise UserError(
                f'{depth_path} has {depth.shape[-1]} channels, but a depth map has one: save it as grey PNG of 16 bits'
            )
        if depth.shape != image.shape[:2]:
            raise UserError(
                f'{image_path} has {_size(image)} pixels, but {depth_path} has {_size(depth)}: a depth map needs the '
                'size of its image'
            )
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@register(TRANSFORMS)
class NYUCrop(BaseTransform):
    """Cuts the part of NYUv2's frames out that has depth: rows 45 to 471 and columns 43 to 607 of 480 x 640 pixels.

    The frames of its depth camera do not reach the margin of those of its colour camera. Source: BTS and the
    Monocular-Depth-Estimation-Toolbox, for training. MMSegmentation's ``DepthMetric`` crops by itself, a little
    tighter.

    Required keys: ``img`` (480, 640, 3), those in ``seg_fields``, such as ``gt_depth_map`` (480, 640). Modified keys:
    these, to 427 x 565 pixels, and ``img_shape``.

    Raises:
        UserError: while loading, an image of another size.
    """

    SIZE = (480, 640)
    ROWS, COLUMNS = slice(45, 472), slice(43, 608)

    def transform(self, results: dict) -> dict:
        """Crop one sample."""
        if results['img'].shape[:2] != self.SIZE:
            raise UserError(
                f'NYUCrop needs images of 640 x 480 pixels, but {results.get("img_path", "the image")} has '
                f'{_size(results["img"])}: leave NYUCrop out of the pipeline for other data than NYUv2'
            )
        for key in ('img', *results.get('seg_fields', ())):
            results[key] = results[key][self.ROWS, self.COLUMNS]
        results['img_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@register(TRANSFORMS)
class GammaColorJitter(BaseTransform):
    """Changes gamma, brightness and the balance of colours, each by a random amount.

    A value v becomes ``white * (v / white) ** gamma * brightness * color``, and no more than 255. Each channel has a
    ``color`` of its own. Source: BTS, and ``ColorAug`` of the Monocular-Depth-Estimation-Toolbox.

    Required and modified key: ``img`` (H, W, 3), uint8.

    Args:
        prob: how likely an image changes.
        gamma: lowest and highest value.
        brightness: lowest and highest factor of all values.
        color: lowest and highest factor of a channel.
        white: the value that gamma leaves as it is. 255 is BTS's. With the toolbox's 1, gamma also changes the
            brightness, of bright values up to 1.7 times.

    Raises:
        UserError: a setting that cannot be.
    """

    def __init__(
        self,
        prob: float = 0.5,
        gamma: tuple[float, float] = (0.9, 1.1),
        brightness: tuple[float, float] = (0.75, 1.25),
        color: tuple[float, float] = (0.9, 1.1),
        white: float = 255,
    ) -> None:
        self.prob = check_number('prob', prob, 0)
        self.gamma = _check_range('gamma', gamma)
        self.brightness = _check_range('brightness', brightness)
        self.color = _check_range('color', color)
        self.white = check_number('white', white, above=0)

    def transform(self, results: dict) -> dict:
        """Change one sample, or not."""
        if np.random.rand() < self.prob:
            values = self.white * (np.arange(256) / self.white) ** np.random.uniform(*self.gamma)
            factors = np.random.uniform(*self.brightness) * np.random.uniform(*self.color, size=3)
            table = (values[:, None] * factors).round().clip(0, 255).astype(np.uint8)
            results['img'] = cv2.LUT(results['img'], table[None])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, gamma={self.gamma}, brightness={self.brightness}, '
            f'color={self.color}, white={self.white})'
        )


def _check_range(name: str, value: Any) -> tuple[float, float]:
    numbers = [check_number(name, number, above=0) for number in check_list(name, value, '(0.9, 1.1)')]
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise UserError(f'{name} must be a lowest and a highest number, such as (0.9, 1.1), got {value!r}')
    return tuple(numbers)


def _size(image: np.ndarray) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'
