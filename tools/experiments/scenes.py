"""Drawn scenes: fresh images without end, on which a larger model is better.

Each image is a function of its index alone. Objects of twelve classes lie on noisy ground with a road. Two classes
each make a pair, whose hues overlap: what tells them apart is a texture, the light, a direction, a detail of the
outline, or what lies around. Objects hide one another.
"""

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

SIZE = 96
CLASSES = (
    'ground',
    'light-spotted disc',
    'dark-spotted disc',
    'square lit from above',
    'square lit from below',
    'upward triangle',
    'downward triangle',
    'ball off the road',
    'ball on the road',
    'closed ring',
    'open ring',
    'clover',
    'flower',
)
COLOURS = np.random.default_rng(0).integers(40, 256, (len(CLASSES), 3))
NUM_OBJECTS = (4, 7)
RADII = (13, 25)
ROAD_HALF_WIDTHS = (9, 14)
PERIODS = (5.0, 8.0)
# Turns of the colour wheel: hues of a pair of classes lie so far apart, and vary by so much to either side.
HUE_STEP = 0.04
HUE_JITTER = 0.055
CONTRAST = 48
NOISE = 8
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
    middle = SIZE / 2
    across = lambda x, y: np.cos(turn) * (x - middle) + np.sin(turn) * (y - middle) - offset  # noqa: E731
    image[np.abs(across(COLUMNS, ROWS)) < half_width] += rng.choice([-45, 45])
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(*NUM_OBJECTS)):
        x, y = rng.uniform(8, SIZE - 8, 2)
        label = int(rng.integers(1, len(CLASSES)))
        if label in (7, 8):
            label = 8 if abs(across(x, y)) < half_width else 7
        draw_object(image, labels, label, x, y, rng)
    top, left = rng.integers(0, 3 * SIZE, 2)
    image += NOISE_MAP[top : top + SIZE, left : left + SIZE]
    return image.clip(0, 255).astype(np.uint8), labels


def draw_object(
    image: np.ndarray, labels: np.ndarray, label: int, x: float, y: float, rng: np.random.Generator
) -> None:
    """Draw an object of a class around a point onto an image and its class map."""
    radius = rng.uniform(*RADII)
    rows = slice(max(int(y - radius), 0), int(y + radius) + 2)
    columns = slice(max(int(x - radius), 0), int(x + radius) + 2)
    # Triangles are told by their direction, others are turned at will.
    turn = rng.uniform(-0.5, 0.5) + np.pi * (label == 6) if label in (5, 6) else rng.uniform(0, 2 * np.pi)
    right, down = (COLUMNS[rows, columns] - x) / radius, (ROWS[rows, columns] - y) / radius
    u, v = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right
    mask = outline(label, u, v)
    pair, second = divmod(label - 1, 2)
    colour = hue_colour(pair / 6 + HUE_STEP * second + rng.uniform(-HUE_JITTER, HUE_JITTER), rng)
    shade = texture(label, u * radius, v * radius, rng)
    if label in (3, 4):
        shade = 0.5 * shade + down * (-1 if label == 3 else 1)
    image[rows, columns][mask] = (colour + CONTRAST * shade[..., None])[mask]
    labels[rows, columns][mask] = label


def outline(label: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Mask of a class's shape of radius 1."""
    squared = u * u + v * v
    if label in (3, 4):
        return np.maximum(np.abs(u), np.abs(v)) < 0.8
    if label in (5, 6):
        return (v < 0.5) & (np.abs(u) * 0.866 - 0.5 * v < 0.5)
    if label in (9, 10):
        ring = (squared < 1) & (squared > 0.2)
        return ring & ((u < 0) | (np.abs(v) > 0.3)) if label == 10 else ring
    if label in (11, 12):
        petals = 3 if label == 11 else 5
        return np.sqrt(squared) < 0.72 + 0.28 * np.cos(petals * np.arctan2(v, u))
    return squared < 1


def texture(label: int, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stripes or spots, from -1 to 1. Discs are told by whether their spots are light or dark."""
    frequency, phase = 2 * np.pi / rng.uniform(*PERIODS), rng.uniform(0, 2 * np.pi)
    stripes = np.sin(frequency * u + phase)
    if label > 2 and rng.random() < 0.5:
        return stripes
    spots = np.where(stripes * np.sin(frequency * v) > 0.3, 1.0, -0.2)
    return -spots if label == 2 or (label > 2 and rng.random() < 0.5) else spots


def hue_colour(hue: float, rng: np.random.Generator) -> np.ndarray:
    """A colour (3,) of some hue (a turn is 1), saturation and value."""
    value, saturation = rng.uniform(110, 230), rng.uniform(0.35, 0.8)
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
