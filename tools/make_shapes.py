"""Draw a small segmentation data set of shapes: for trying things out where no real one is at hand.

    python tools/make_shapes.py data/shapes

Seven kinds of shapes in random colours, sizes and turns on noisy ground. Neither colour nor texture tells the class, so
that a model has to see the form.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

SIZE = 96
CLASSES = ('background', 'disc', 'ring', 'square', 'frame', 'triangle', 'star', 'cross')
# Outlines at radius 1; a ring and a frame are a disc and a square with a hole.
ANGLES = np.arange(60) / 60 * 2 * np.pi
STAR_RADII = np.where(np.arange(10) % 2 == 0, 1.0, 0.4)
OUTLINES = {
    'disc': np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1),
    'square': np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.8,
    'triangle': np.stack([np.cos(ANGLES[::20]), np.sin(ANGLES[::20])], axis=1),
    'star': np.stack([np.cos(ANGLES[::6]), np.sin(ANGLES[::6])], axis=1) * STAR_RADII[:, None],
    'cross': np.array(
        [[1, 3], [1, 1], [3, 1], [3, -1], [1, -1], [1, -3], [-1, -3], [-1, -1], [-3, -1], [-3, 1], [-1, 1], [-1, 3]]
    )
    / 3,
}
HOLES = {'ring': 'disc', 'frame': 'square'}


def draw_shape(name: str, centre: np.ndarray, radius: float, turn: float) -> np.ndarray:
    """Mask (H, W) of one shape."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outline = OUTLINES[HOLES.get(name, name)] @ rotation.T
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.round(centre + radius * outline).astype(np.int32)], 1)
    if name in HOLES:
        cv2.fillPoly(mask, [np.round(centre + 0.55 * radius * outline).astype(np.int32)], 0)
    return mask.astype(bool)


def draw_sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) and its class map (H, W), both uint8."""
    image = np.broadcast_to(rng.uniform(40, 215, 3), (SIZE, SIZE, 3)).copy()
    labels = np.zeros((SIZE, SIZE), np.uint8)
    for _ in range(rng.integers(3, 7)):
        index = rng.integers(1, len(CLASSES))
        mask = draw_shape(CLASSES[index], rng.uniform(10, SIZE - 10, 2), rng.uniform(9, 20), rng.uniform(0, 2 * np.pi))
        image[mask] = rng.uniform(0, 255, 3)
        labels[mask] = index
    image += rng.normal(0, 12, image.shape)
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
