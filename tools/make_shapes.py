"""Draw a small segmentation data set of shapes, for experiments without a real data set.

$ python tools/make_shapes.py data/shapes

Six kinds of shapes of random size and rotation lie on noisy ground. Two kinds share each hue, so colour alone does not
give the class: the model also has to recognise the form, which a larger model does better.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

SIZE = 96
ANGLES = np.arange(60) / 60 * 2 * np.pi
DISC = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
SQUARE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.85
TRIANGLE = DISC[::20]
STAR = DISC[::6] * np.where(np.arange(10) % 2 == 0, 1.0, 0.4)[:, None]
# Class, outline at radius 1, radius of the hole, hue (of 180). Class 0 is the ground.
SHAPES = (
    ('disc', DISC, 0.0, 0),
    ('ring', DISC, 0.6, 0),
    ('square', SQUARE, 0.0, 60),
    ('frame', SQUARE, 0.6, 60),
    ('triangle', TRIANGLE, 0.0, 120),
    ('star', STAR, 0.0, 120),
)


def draw_shape(outline: np.ndarray, hole: float, centre: np.ndarray, radius: float, turn: float) -> np.ndarray:
    """Mask (H, W) of one shape."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for size, value in ((radius, 1), (hole * radius, 0)):
        cv2.fillPoly(mask, [np.round(centre + size * outline @ rotation.T).astype(np.int32)], value)
    return mask.astype(bool)


def draw_sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3), blue first, and its class map (H, W), both uint8."""
    image = np.full((SIZE, SIZE, 3), rng.uniform(60, 200))
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(2, 6)):
        index = rng.integers(len(SHAPES))
        _, outline, hole, hue = SHAPES[index]
        centre, radius, turn = rng.uniform(12, SIZE - 12, 2), rng.uniform(12, 24), rng.uniform(0, 2 * np.pi)
        mask = draw_shape(outline, hole, centre, radius, turn)
        colour = np.uint8([[[(hue + rng.integers(-12, 13)) % 180, rng.integers(90, 256), rng.integers(90, 256)]]])
        image[mask] = cv2.cvtColor(colour, cv2.COLOR_HSV2BGR)[0, 0]
        labels[mask] = index + 1
    image += rng.normal(0, 16, image.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def make_shapes(root: Path, num_train: int, num_val: int) -> None:
    """Write images/{train,val}/*.png and annotations/{train,val}/*.png below ``root``."""
    rng = np.random.default_rng(0)
    for split, count in (('train', num_train), ('val', num_val)):
        folders = [root / kind / split for kind in ('images', 'annotations')]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            for folder, array in zip(folders, draw_sample(rng), strict=True):
                cv2.imwrite(str(folder / f'{index:04d}.png'), array)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder to write to')
    parser.add_argument('--num-train', type=int, default=800, help='training images (800)')
    parser.add_argument('--num-val', type=int, default=100, help='validation images (100)')
    args = parser.parse_args()
    make_shapes(args.root, args.num_train, args.num_val)
    print(f'drew {args.num_train} training and {args.num_val} validation images into {args.root}')


if __name__ == '__main__':
    main()
