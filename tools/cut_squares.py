"""Cut squares out of a segmentation data set: pictures to classify, in one folder for each class.

$ python tools/cut_squares.py configs/camvid/anchor-s6_setr-naive_b8-1k_camvid-240x320.py --out data/camvid-squares

The class of a square is what its middle shows. Takes the training and validation data of a config of MMSegmentation,
and writes DIR/{train,val}/CLASS/*.jpg, which MMPretrain's CustomDataset reads. Classes with few squares are left out.
The same data always give the same squares.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from numpy.lib.stride_tricks import sliding_window_view
from tqdm import tqdm

from mmsnnet.cli import command, config_parser, load_config
from mmsnnet.engine import check_data_folders
from mmsnnet.errors import UserError
from mmsnnet.settings import check_int

PARTS = ('train', 'val')
# Pixels between neighbouring squares to choose from.
STEP = 8
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95]


class Square(NamedTuple):
    """Where a square lies in an image, and the index of its class."""

    image: str
    top: int
    left: int
    label: int


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--side', type=int, default=96, help='pixels of a square (96)')
    parser.add_argument('--middle', type=int, default=12, help='pixels in its middle, all of one class (12)')
    parser.add_argument('--per-image', type=int, default=4, help='squares of each class to cut out of an image (4)')
    parser.add_argument('--fewest', type=int, default=300, help='training squares that a class needs (300)')
    args = parser.parse_args()
    args.side = check_int('--side', args.side, 1)
    args.middle = check_int('--middle', args.middle, 1, args.side, 'a square holds its middle')
    args.per_image = check_int('--per-image', args.per_image, 1)
    args.fewest = check_int('--fewest', args.fewest, 1)
    if args.out.exists():
        raise UserError(f'{args.out} exists: remove it, or choose another --out')
    return args


def read_data_set(cfg: Config, part: str) -> tuple[Any, list[str]]:
    """Images with maps of classes of one part of the data, and the names of the classes.

    Raises:
        UserError: a config of another task.
    """
    settings = dict((cfg.get(f'{part}_dataloader') or {}).get('dataset') or {})
    steps = [
        step for step in settings.get('pipeline') or () if step['type'] in ('LoadImageFromFile', 'LoadAnnotations')
    ]
    dataset = DATASETS.build({**settings, 'pipeline': steps}) if len(steps) == 2 else None
    if not hasattr(dataset, 'reduce_zero_label'):
        raise UserError(
            f'{cfg.filename} has no {part} data with maps of classes: give a config of MMSegmentation, whose data sets '
            'no other wraps'
        )
    return dataset, [name.strip().replace('/', '-') for name in dataset.metainfo['classes']]


def find_squares(sample: Mapping, side: int, middle: int, per_image: int) -> list[Square]:
    """Squares of an image, for each class at most ``per_image``, evenly spread over all that there are."""
    labels = sample['gt_seg_map']
    if min(labels.shape) < side:
        return []
    edge = (side - middle) // 2
    inner = labels[edge : labels.shape[0] - side + edge + middle, edge : labels.shape[1] - side + edge + middle]
    middles = sliding_window_view(inner, (middle, middle))[::STEP, ::STEP]
    values = middles[:, :, 0, 0]
    is_pure = (middles == values[:, :, None, None]).all(axis=(2, 3))
    squares = []
    for label in np.unique(values[is_pure]):
        places = np.argwhere(is_pure & (values == label)) * STEP
        count = min(per_image, len(places))
        chosen = places[(2 * np.arange(count) + 1) * len(places) // (2 * count)]
        squares += [Square(sample['img_path'], int(top), int(left), int(label)) for top, left in chosen]
    return squares


def write_squares(squares: list[Square], names: Mapping[int, str], side: int, folder: Path) -> None:
    """Write each square as a picture. Every class has a folder, even if it is empty."""
    for name in names.values():
        (folder / name).mkdir(parents=True)
    by_image: dict[str, list[Square]] = {}
    for square in squares:
        by_image.setdefault(square.image, []).append(square)
    for path, inside in tqdm(by_image.items(), desc=f'cutting {folder}', dynamic_ncols=True):
        image = cv2.imread(path)
        for _, top, left, label in inside:
            file = folder / names[label] / f'{Path(path).stem}_{top}_{left}.jpg'
            cv2.imwrite(str(file), image[top : top + side, left : left + side], QUALITY)


@command
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    check_data_folders(cfg)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    squares, classes = {}, []
    for part in PARTS:
        dataset, classes = read_data_set(cfg, part)
        samples = tqdm((dataset[index] for index in range(len(dataset))), f'reading {part}', len(dataset))
        found = [square for each in samples for square in find_squares(each, args.side, args.middle, args.per_image)]
        squares[part] = [square for square in found if square.label < len(classes)]
    counts = {part: Counter(square.label for square in squares[part]) for part in PARTS}
    names = {label: name for label, name in enumerate(classes) if counts['train'][label] >= args.fewest}
    if len(names) < 2:
        raise UserError(f'{len(names)} classes have {args.fewest} training squares: lower --fewest, --side or --middle')
    for part in PARTS:
        write_squares([square for square in squares[part] if square.label in names], names, args.side, args.out / part)
    for label, name in sorted(names.items(), key=lambda item: item[1]):
        print(f'{name:20s} {counts["train"][label]:7d} train {counts["val"][label]:7d} val')
    left_out = [name for label, name in enumerate(classes) if label not in names]
    print(f'left out, with fewer than {args.fewest} training squares: {", ".join(left_out) or "none"}')
    print(f'wrote {args.out}; classes={sorted(names.values())}')


if __name__ == '__main__':
    main()
