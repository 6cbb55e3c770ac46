"""Draw pictures of rooms with their exact depth, for experiments on depth estimation without a real data set.

$ python tools/make_rooms.py data/rooms

A camera, always at the same height, looks around in a room of 3 to 7 m with furniture of usual sizes. Colours and
textures show what a thing is: floors are brown, ceilings white, sofas red. They do not show its distance. A model must
infer it from where the thing meets the floor, from perspective, from textures that get finer, and from known sizes.
Lamp and exposure are random. A few per cent of the pixels have no depth, as behind edges for a Kinect.

Writes what MMSegmentation's NYUDataset reads: images/{train,val}/*.jpg of 96 x 128 pixels, and
annotations/{train,val}/*.png of 16 bits with the distance along the optical axis in millimetres, 0 where there is none.
The same seed gives the same rooms.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmsnnet.cli import command
from mmsnnet.errors import UserError
from mmsnnet.settings import check_int

HEIGHT, WIDTH = 96, 128
# Rays for a pixel's colour, along each side.
FINE = 2
# Metres that the camera measures, and between its eye and its projector, which casts shadows without depth.
RANGE = (0.3, 10.0)
BASELINE = 0.075
CAMERA_HEIGHT = 1.5
# Metres from the floor to the ceiling.
ROOM_HEIGHT = 2.5
# Radians from the left edge of a picture to the right one.
FIELD = np.deg2rad(58)
# Metres of free floor around the camera, and how many places are tried for the furniture of a room.
CLEARANCE = 0.5
TRIES = 40
Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]


def smooth_noise(sigma: float) -> np.ndarray:
    """Noise (256, 256) of mean 0 and deviation 1, which tiles without seams."""
    noise = np.pad(np.random.default_rng(0).normal(size=(256, 256)), 32, mode='wrap')
    noise = cv2.GaussianBlur(noise, (0, 0), sigma)[32:-32, 32:-32]
    return (noise / noise.std()).astype(np.float32)


SPECKLES, CLOUDS = smooth_noise(0.8), smooth_noise(4)


def look_up(noise: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return noise[y.astype(int) & 255, x.astype(int) & 255]


# Share of the second colour at places counted in periods.
PATTERNS = {
    'plain': lambda x, y: np.zeros_like(x),
    'stripes': lambda x, y: x % 1 < 0.4,
    'checks': lambda x, y: (np.floor(x) + np.floor(y)) % 2,
    'tiles': lambda x, y: (x % 1 < 0.1) | (y % 1 < 0.1),
    'dots': lambda x, y: (x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.08,
    'planks': lambda x, y: (
        0.5 + 0.25 * look_up(SPECKLES, np.floor(x / 5 + 0.37 * np.floor(y)) + 256, np.floor(y) + 256)
    ),
    'clouds': lambda x, y: 0.5 + 0.3 * look_up(CLOUDS, x * 16 + 4096, y * 16 + 4096),
}


@dataclass
class Look:
    """What things of a kind look like.

    Args:
        hues: from and to, degrees; 0 is red, 120 green, 240 blue.
        saturations: from and to, between 0 (grey) and 1.
        values: from and to, between 0 (black) and 1.
        patterns: names from ``PATTERNS``, separated by spaces.
    """

    hues: tuple[float, float]
    saturations: tuple[float, float]
    values: tuple[float, float]
    patterns: str

    def draw_colour(self, rng: np.random.Generator) -> np.ndarray:
        """A colour (3,), blue first, from 0 to 1."""
        colour = [rng.uniform(*limits) for limits in (self.hues, self.saturations, self.values)]
        return cv2.cvtColor(np.float32([[colour]]), cv2.COLOR_HSV2BGR)[0, 0]


@dataclass
class Kind:
    """A kind of furniture.

    Args:
        size: width, depth and height in metres.
        above: metres of its lower edge over the floor, if it hangs on a wall.
    """

    size: tuple[float, float, float]
    look: Look
    above: float = 0.0


FLOOR = Look((20, 40), (0.3, 0.6), (0.3, 0.55), 'checks tiles planks')
CEILING = Look((0, 360), (0, 0.05), (0.9, 1), 'plain clouds')
WALL = Look((0, 360), (0.05, 0.25), (0.7, 0.9), 'plain plain stripes clouds')
STANDING = (
    Kind((1.6, 2.0, 0.5), Look((200, 250), (0.3, 0.8), (0.6, 0.9), 'plain stripes checks')),  # bed
    Kind((1.9, 0.9, 0.8), Look((340, 360), (0.5, 0.8), (0.4, 0.7), 'plain clouds')),  # sofa
    Kind((1.2, 0.7, 0.75), Look((35, 50), (0.5, 0.8), (0.7, 0.9), 'plain clouds')),  # table
    Kind((0.8, 0.4, 0.9), Look((15, 30), (0.6, 0.9), (0.2, 0.35), 'tiles')),  # chest of drawers
    Kind((1.2, 0.6, 2.0), Look((160, 190), (0.3, 0.6), (0.4, 0.7), 'stripes tiles')),  # wardrobe
    Kind((0.8, 0.3, 1.8), Look((0, 360), (0.3, 0.9), (0.3, 0.9), 'checks planks')),  # shelf
    Kind((0.6, 0.65, 1.75), Look((200, 220), (0, 0.08), (0.55, 0.7), 'plain')),  # fridge
    Kind((0.42, 0.42, 0.45), Look((90, 140), (0.5, 0.9), (0.4, 0.8), 'plain')),  # stool
)
HANGING = (
    Kind((0.9, 0.06, 2.0), Look((20, 35), (0.4, 0.7), (0.4, 0.6), 'plain')),  # door
    Kind((0.8, 0.35, 0.7), Look((50, 70), (0.3, 0.6), (0.8, 1), 'tiles'), above=1.4),  # cupboard
    Kind((0.8, 0.03, 0.6), Look((270, 320), (0.4, 0.9), (0.4, 0.9), 'dots clouds'), above=1.3),  # picture
)


def draw_paint(look: Look, rng: np.random.Generator) -> Paint:
    """A texture: colours (N, 3) of places on a surface, whose two coordinates are in metres."""
    pattern = PATTERNS[rng.choice(look.patterns.split())]
    first, second = look.draw_colour(rng), look.draw_colour(rng)
    second = first + rng.uniform(0.3, 1) * (second - first)
    period, grain = rng.uniform(0.25, 0.45), rng.uniform(0.01, 0.06)
    is_turned = rng.random() < 0.5

    def paint(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        u, v = (v, u) if is_turned else (u, v)
        share = pattern(u / period, v / period).astype(np.float32)
        return (
            first
            + share[:, None] * (second - first)
            + grain * look_up(SPECKLES, u * 100 + 4096, v * 100 + 4096)[:, None]
        )

    return paint


@dataclass
class Box:
    """A block, turned about the vertical axis; the room itself is one, seen from inside.

    Args:
        centre: (3,), metres; the third axis points up from the floor.
        half: (3,), half of its size along its own axes.
        turn: radians.
        paints: of its sides: low and high end of each of its axes.
    """

    centre: np.ndarray
    half: np.ndarray
    turn: float
    paints: Sequence[Paint]

    @property
    def axes(self) -> np.ndarray:
        """Its axes, the rows of a matrix (3, 3)."""
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], np.float32)

    @property
    def extent(self) -> np.ndarray:
        """Half of the size (3,) of the upright box around it along the axes of the room."""
        return np.abs(self.axes.T) @ self.half

    def spans(self, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays (3, N) enter and leave the space between each pair of its sides, both (3, N), in their lengths.

        They start from one ``origin`` (3, 1), or each from its own (3, N).
        """
        start, step, end = self.axes @ self.away(origin), self.axes @ rays, self.half[:, None].astype(np.float32)
        with np.errstate(divide='ignore'):
            low, high = (-end - start) / step, (end - start) / step
        return np.minimum(low, high), np.maximum(low, high)

    def away(self, points: np.ndarray) -> np.ndarray:
        """Ways (3, N) from its centre to points (3, N)."""
        return (points - self.centre[:, None]).astype(np.float32)


@dataclass
class Camera:
    """A camera at a ``place`` (3,), with angles in radians; a positive tilt looks down."""

    place: np.ndarray
    yaw: float
    tilt: float
    roll: float
    field: float = FIELD

    @property
    def focal_length(self) -> float:
        """In pixels."""
        return WIDTH / 2 / np.tan(self.field / 2)

    def rays(self, fine: int = 1) -> np.ndarray:
        """Rays (3, N) through ``fine`` x ``fine`` places in each pixel, of length 1 along the optical axis."""
        rows, columns = (np.mgrid[: HEIGHT * fine, : WIDTH * fine] + 0.5) / fine
        x, y = (columns - WIDTH / 2) / self.focal_length, (rows - HEIGHT / 2) / self.focal_length
        forward = np.array(
            [np.cos(self.yaw) * np.cos(self.tilt), np.sin(self.yaw) * np.cos(self.tilt), -np.sin(self.tilt)]
        )
        right = np.array([np.sin(self.yaw), -np.cos(self.yaw), 0])
        down = np.cross(forward, right)
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        axes = np.stack([cosine * right + sine * down, cosine * down - sine * right, forward], axis=1)
        return (axes @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1)).astype(np.float32)


def trace(boxes: Sequence[Box], origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far rays (3, N) go, in their lengths; the number of the box that they meet; the axis of its side. All (N,).

    The first box is the room, around ``origin`` (3, 1).
    """
    room, *furniture = boxes
    _, leave = room.spans(origin, rays)
    distance, axis = leave.min(axis=0), leave.argmin(axis=0)
    number = np.zeros(len(distance), int)
    for index, box in enumerate(furniture, 1):
        enter, leave = box.spans(origin, rays)
        near = enter.max(axis=0)
        is_first = (near > 0) & (near < leave.min(axis=0)) & (near < distance)
        distance[is_first], number[is_first] = near[is_first], index
        axis[is_first] = enter[:, is_first].argmax(axis=0)
    return distance, number, axis


def paint_surfaces(boxes: Sequence[Box], lamp: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Colours (N, 3) that rays (3, N) from a place (3, 1) see by the light of a lamp (3, 1), from 0 to about 1."""
    distance, number, axis = trace(boxes, origin, rays)
    points = (origin + distance * rays).astype(np.float32)
    to_lamp = (lamp - points).astype(np.float32)
    squared = (to_lamp**2).sum(axis=0)
    glow = ~in_shadow(boxes[1:], points, to_lamp) / np.sqrt(squared) / (0.5 + 0.12 * squared)
    colours = np.empty((len(distance), 3), np.float32)
    for index, box in enumerate(boxes):
        for side in range(3):
            seen = np.flatnonzero((number == index) & (axis == side))
            places = box.axes @ box.away(points[:, seen])
            for end in (0, 1):
                is_end = (places[side] > 0) == end
                pixels = seen[is_end]
                normal = box.axes[side] * (2 * end - 1) * (-1 if index == 0 else 1)
                light = 0.4 + glow[pixels] * (normal @ to_lamp[:, pixels]).clip(0)
                colour = box.paints[2 * side + end](*np.delete(places[:, is_end], side, axis=0))
                colours[pixels] = light[:, None] * colour
    return colours


def in_shadow(furniture: Sequence[Box], points: np.ndarray, to_lamp: np.ndarray) -> np.ndarray:
    """Whether furniture stands between points (3, N) and the lamp, in which directions (3, N)."""
    is_dark = np.zeros(points.shape[1], bool)
    for box in furniture:
        enter, leave = box.spans(points, to_lamp)
        near = enter.max(axis=0)
        is_dark |= (near > 1e-3) & (near < 1) & (near < leave.min(axis=0))
    return is_dark


def draw_room(rng: np.random.Generator) -> tuple[list[Box], Camera]:
    """A room with 3 to 8 pieces of furniture, and a camera in it that looks towards one of these."""
    size = np.array([*rng.uniform(3, 7, 2), ROOM_HEIGHT])
    wall, floor, ceiling = (draw_paint(look, rng) for look in (WALL, FLOOR, CEILING))
    boxes = [Box(size / 2, size / 2, 0, [wall] * 4 + [floor, ceiling])]
    place = np.array([*rng.uniform(0.7, size[:2] - 0.7), CAMERA_HEIGHT])
    count = rng.integers(3, 9)
    for _ in range(TRIES):
        box = draw_box(size, rng)
        if len(boxes) <= count and has_space(box, boxes[1:], place):
            boxes.append(box)
    forward = boxes[rng.integers(1, len(boxes))].centre - place
    camera = Camera(
        place,
        yaw=np.arctan2(forward[1], forward[0]) + rng.uniform(-0.4, 0.4),
        tilt=np.deg2rad(rng.uniform(5, 25)),
        roll=np.deg2rad(rng.uniform(-2, 2)),
    )
    return boxes, camera


def draw_box(room: np.ndarray, rng: np.random.Generator) -> Box:
    """A piece of furniture anywhere in a room of a size (3,): at a wall, or free and turned."""
    is_hanging = rng.random() < 0.35
    is_free = not is_hanging and rng.random() < 0.3
    kinds = HANGING if is_hanging else STANDING
    kind = kinds[rng.integers(len(kinds))]
    half = np.array(kind.size) * rng.uniform(0.95, 1.05, 3) / 2
    wall = rng.integers(4)
    front, top = draw_paint(kind.look, rng), draw_paint(kind.look, rng)
    turn = rng.uniform(0, np.pi) if is_free else wall * np.pi / 2
    box = Box(np.zeros(3), half, turn, [front] * 4 + [top] * 2)
    limits = box.extent[:2], room[:2] - box.extent[:2]
    place = rng.uniform(*limits)
    if not is_free:
        across = (wall + 1) % 2
        place[across] = limits[wall // 2][across]
    box.centre = np.array([*place, kind.above + half[2]])
    return box


def has_space(box: Box, others: Sequence[Box], camera: np.ndarray) -> bool:
    """Whether a box is apart from others and from a camera at a place (3,)."""
    is_clear = (np.abs(box.centre - camera) > box.extent + CLEARANCE)[:2].any()
    return is_clear and all((np.abs(box.centre - other.centre) > box.extent + other.extent).any() for other in others)


def measure(depth: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """What a Kinect has of a depth map (H, W) in metres: millimetres of 16 bits, 0 where it has nothing.

    It has nothing out of its range, where its projector's light does not come, and in spots here and there.
    """
    seen_by_projector = np.arange(WIDTH) - camera.focal_length * BASELINE / depth
    is_shadow = seen_by_projector > np.minimum.accumulate(seen_by_projector[:, ::-1], axis=1)[:, ::-1]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + rng.integers(256, size=(2, 1, 1))
    is_spot = look_up(CLOUDS, columns, rows) > 2
    is_far = (depth < RANGE[0]) | (depth > RANGE[1])
    return np.where(is_shadow | is_spot | is_far, 0, np.round(depth * 1000)).astype(np.uint16)


def expose(colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture (H, W, 3), uint8, that a camera takes of colours (H * FINE, W * FINE, 3)."""
    image = cv2.resize(colours, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    rows, columns = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    image *= 1 - rng.uniform(0, 0.2) * (rows**2 + columns**2)[..., None]
    image *= rng.uniform(80, 150) * rng.uniform(0.9, 1.1, 3) / image.mean()
    image += rng.normal(0, rng.uniform(2, 8), image.shape)
    return image.clip(0, 255).astype(np.uint8)


def draw_sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a room (H, W, 3), blue first, uint8, and its depth (H, W) in millimetres, uint16."""
    boxes, camera = draw_room(rng)
    lamp = boxes[0].centre + boxes[0].half * [*rng.uniform(-0.8, 0.8, 2), rng.uniform(0.5, 0.95)]
    origin = camera.place[:, None]
    colours = paint_surfaces(boxes, lamp[:, None], origin, camera.rays(FINE))
    depth, _, _ = trace(boxes, origin, camera.rays())
    image = expose(colours.reshape(HEIGHT * FINE, WIDTH * FINE, 3), rng)
    return image, measure(depth.reshape(HEIGHT, WIDTH), camera, rng)


def make_rooms(root: Path, counts: dict[str, int], seed: int) -> None:
    """Write so many samples of each part, such as 'train', below ``root``.

    A sample depends on the seed, its part and its number alone.
    """
    for number, (part, count) in enumerate(counts.items()):
        folders = [root / kind / part for kind in ('images', 'annotations')]
        for folder in folders:
            folder.mkdir(parents=True)
        for index in tqdm(range(count), f'drawing {part}', dynamic_ncols=True):
            image, depth = draw_sample(np.random.default_rng([seed, number, index]))
            cv2.imwrite(str(folders[0] / f'{index:05d}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            cv2.imwrite(str(folders[1] / f'{index:05d}.png'), depth)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder to write to, which must not exist')
    parser.add_argument('--num-train', type=int, default=6000, help='training rooms (6000)')
    parser.add_argument('--num-val', type=int, default=500, help='validation rooms (500)')
    parser.add_argument('--seed', type=int, default=0, help='other seeds give other rooms (0)')
    args = parser.parse_args()
    counts = {'train': check_int('--num-train', args.num_train, 1), 'val': check_int('--num-val', args.num_val, 1)}
    seed = check_int('--seed', args.seed, 0)
    if args.root.exists():
        raise UserError(f'{args.root} exists: remove it, or choose another folder')
    make_rooms(args.root, counts, seed)
    print(f'drew {args.num_train} training and {args.num_val} validation rooms into {args.root}')


if __name__ == '__main__':
    main()
