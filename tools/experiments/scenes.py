"""Drawn scenes: fresh images without end, on which a larger model is better.

Each image is a function of its index alone. Objects of many shapes lie on noisy ground with a road, and hide one
another. Each has two colours. Their hues tell the class by a table that has no rule: the more of its cells a model has
learnt, the better it is. Shape, pattern, light and saturation tell nothing.
"""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

SIZE = 96
NUM_CLASSES = 13
NUM_OBJECTS = (4, 7)
RADII = (13, 25)
ROAD_HALF_WIDTHS = (9, 14)
PERIODS = (6.0, 9.0)
NOISE = 8
# A hue circle has so many cells. The margin at both sides of a cell stays empty.
NUM_HUES = 6
MARGIN = 0.1
CLASSES = ('ground', *(f'kind {number}' for number in range(1, NUM_CLASSES)))
COLOURS = np.random.default_rng(0).integers(40, 256, (NUM_CLASSES, 3))
# For each kind, the cells of (first hue, second hue) that mean it.
CELLS = np.random.default_rng(0).permutation(NUM_HUES**2).reshape(NUM_CLASSES - 1, -1)
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)
# Noise is cut from one large map: drawing it anew would cost more than all objects.
NOISE_MAP = np.random.default_rng(0).normal(0, NOISE, (4 * SIZE, 4 * SIZE, 3)).astype(np.float32)


def draw_scene(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image number ``index`` (H, W, 3) and its class map (H, W), both uint8."""
    rng = np.random.default_rng(index)
    image = np.empty((SIZE, SIZE, 3), np.float32)
    tilt = rng.uniform(-0.5, 0.5, 2)
    light = tilt[0] * (ROWS - SIZE / 2) + tilt[1] * (COLUMNS - SIZE / 2)
    image[:] = rng.uniform(80, 160) + rng.uniform(-15, 15, 3) + light[..., None]
    turn, offset, half_width = rng.uniform(0, np.pi), rng.uniform(-20, 20), rng.uniform(*ROAD_HALF_WIDTHS)
    across = np.cos(turn) * (COLUMNS - SIZE / 2) + np.sin(turn) * (ROWS - SIZE / 2) - offset
    image[np.abs(across) < half_width] += rng.choice([-45, 45])
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(*NUM_OBJECTS)):
        draw_object(image, labels, int(rng.integers(1, NUM_CLASSES)), rng)
    top, left = rng.integers(0, 3 * SIZE, 2)
    image += NOISE_MAP[top : top + SIZE, left : left + SIZE]
    return image.clip(0, 255).astype(np.uint8), labels


def draw_object(image: np.ndarray, labels: np.ndarray, label: int, rng: np.random.Generator) -> None:
    """Draw an object of a class anywhere onto an image and its class map."""
    x, y = rng.uniform(8, SIZE - 8, 2)
    radius = rng.uniform(*RADII)
    rows = slice(max(int(y - radius), 0), int(y + radius) + 2)
    columns = slice(max(int(x - radius), 0), int(x + radius) + 2)
    turn = rng.uniform(0, 2 * np.pi)
    right, down = (COLUMNS[rows, columns] - x) / radius, (ROWS[rows, columns] - y) / radius
    u, v = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right
    mask = outline(int(rng.integers(5)), u, v)
    cell = divmod(int(rng.choice(CELLS[label - 1])), NUM_HUES)
    ground, spots = (hue_colour((hue + rng.uniform(MARGIN, 1 - MARGIN)) / NUM_HUES, rng) for hue in cell)
    is_spot = pattern(u * radius, v * radius, rng)
    image[rows, columns][mask] = np.where(is_spot[..., None], spots, ground)[mask]
    labels[rows, columns][mask] = label


def outline(kind: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Mask of a shape of radius 1: square, triangle, ring, flower or disc."""
    squared = u * u + v * v
    if kind == 0:
        return np.maximum(np.abs(u), np.abs(v)) < 0.8
    if kind == 1:
        return (v < 0.5) & (np.abs(u) * 0.866 - 0.5 * v < 0.5)
    if kind == 2:
        return (squared < 1) & (squared > 0.2)
    if kind == 3:
        return np.sqrt(squared) < 0.72 + 0.28 * np.cos(4 * np.arctan2(v, u))
    return squared < 1


def pattern(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mask of stripes or spots, the smaller part of an object."""
    frequency, phase = 2 * np.pi / rng.uniform(*PERIODS), rng.uniform(0, 2 * np.pi)
    stripes = np.sin(frequency * u + phase)
    return stripes > 0.3 if rng.random() < 0.5 else stripes * np.sin(frequency * v) > 0.1


def hue_colour(hue: float, rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) of some hue (a turn is 1), saturation and value."""
    value, saturation = rng.uniform(130, 240), rng.uniform(0.5, 0.9)
    wheel = np.abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1
    return value * (1 - saturation * (1 - wheel.clip(0, 1)))


@DATASETS.register_module()
class DrawnScenes(BaseSegDataset):
    """Scenes number ``first`` to ``first + count - 1``.

    Args:
        first: a number of a scene.
        count: number of scenes.
        **kwargs: of ``BaseSegDataset``.
    """

    METAINFO = {'classes': CLASSES, 'palette': COLOURS.tolist()}

    def __init__(self, first: int, count: int, **kwargs: Any) -> None:
        self.scenes = range(first, first + count)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [{'scene': scene, 'reduce_zero_label': False, 'seg_fields': []} for scene in self.scenes]


@TRANSFORMS.register_module()
class DrawScene(BaseTransform):
    """Draws the scene that a sample of ``DrawnScenes`` names."""

    def transform(self, results: dict) -> dict:
        image, labels = draw_scene(results['scene'])
        results.update(img=image, gt_seg_map=labels, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        results['seg_fields'].append('gt_seg_map')
        return results
