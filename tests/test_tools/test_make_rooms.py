"""``tools/make_rooms.py`` draws rooms whose depth is exact."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from toy_job import assert_one_line

from tools.make_rooms import (
    CEILING,
    FLOOR,
    HANGING,
    HEIGHT,
    STANDING,
    WALL,
    WIDTH,
    Box,
    Camera,
    draw_room,
    draw_sample,
    in_shadow,
    measure,
    trace,
)

CONFIG = Path(__file__).parents[2] / 'configs/_base_/datasets/rooms_96x128.py'
SIZE = np.array([5, 4, 2.5])
ROOM = Box(SIZE / 2, SIZE / 2, 0, [])
# Looks straight at a wall 3 m away.
CAMERA = Camera(np.array([2, 2, 1.25]), yaw=0, tilt=0, roll=0, field=np.deg2rad(60))


def see(*furniture: Box, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, numbers of boxes and axes of sides, (H, W) each."""
    seen = trace([ROOM, *furniture], camera.place[:, None], camera.rays())
    return tuple(each.reshape(HEIGHT, WIDTH) for each in seen)


def block(distance: float, half: float, turn: float = 0) -> Box:
    """A block on the camera's axis, of a size, whose centre is at a distance."""
    return Box(CAMERA.place + np.array([distance, 0, 0]), np.full(3, half), turn, [])


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*.*')}


def test_a_wall_across_the_optical_axis_has_one_depth():
    depth, _, axis = see()
    wall = axis == 0
    assert wall.any()
    assert depth[wall] == pytest.approx(3, abs=1e-5)
    assert depth[~wall].max() < 3


def test_the_floor_comes_nearer_from_row_to_row():
    low = replace(CAMERA, place=np.array([2, 2, 0.5]))
    depth, _, axis = see(camera=low)
    below = np.arange(HEIGHT) + 0.5 - HEIGHT / 2
    expected = 0.5 * low.focal_length / below
    column = WIDTH // 2
    is_floor = (axis[:, column] == 2) & (below > 0)
    assert is_floor.sum() > 20
    assert depth[is_floor, column] == pytest.approx(expected[is_floor], abs=1e-5)


def test_a_camera_that_looks_down_sees_the_floor_below_it():
    depth, _, axis = see(camera=replace(CAMERA, yaw=1, tilt=np.pi / 2, roll=0.3))
    assert (axis == 2).all()
    assert depth == pytest.approx(CAMERA.place[2], abs=1e-5)


def test_what_is_nearer_hides_what_is_behind_it():
    depth, number, _ = see(block(2, 0.5), block(2.8, 0.2))
    assert set(np.unique(number)) == {0, 1}
    assert depth[number == 1] == pytest.approx(1.5, abs=1e-5)
    width = (number[HEIGHT // 2] == 1).sum()
    assert width == pytest.approx(CAMERA.focal_length * 1 / 1.5, abs=1)
    without, _, _ = see()
    assert (depth[number == 0] == without[number == 0]).all()


def test_a_turned_block_shows_its_edge():
    depth, number, axis = see(block(2, 0.5, turn=np.pi / 4))
    assert depth[number == 1].min() == pytest.approx(2 - np.sqrt(0.5), abs=0.02)
    assert set(axis[number == 1]) == {0, 1}


def test_blocks_throw_shadows():
    lamp = CAMERA.place
    # Behind the block, in front of it, beside its shadow.
    ways = np.array([[3, 0, 0], [1, 0, 0], [3, 1, 0]]).T
    assert in_shadow([block(2, 0.3)], lamp[:, None] + ways, -ways).tolist() == [True, False, False]


def test_depth_is_missing_beside_near_things_on_one_side():
    depth = np.full((HEIGHT, WIDTH), 4.0)
    depth[:, 40:80] = 1
    missing = measure(depth, CAMERA, np.random.default_rng(0)) == 0
    width = CAMERA.focal_length * 0.075 * (1 / 1 - 1 / 4)
    assert missing[:, int(40 - width) + 1 : 40].all()
    # Spots take the rest.
    assert 0 < np.delete(missing, range(int(40 - width), 40), axis=1).mean() < 0.1


def test_depth_is_in_millimetres_and_in_range():
    depth = np.linspace(0.1, 12, HEIGHT)[:, None].repeat(WIDTH, axis=1)
    measured = measure(depth, CAMERA, np.random.default_rng(0))
    assert measured.dtype == np.uint16
    is_there = measured > 0
    assert abs(measured[is_there] - depth[is_there] * 1000).max() <= 0.5
    assert not is_there[(depth < 0.3) | (depth > 10)].any()


def test_rooms_differ_and_show_furniture_and_depth():
    samples = [draw_sample(np.random.default_rng(seed)) for seed in range(12)]
    means = [depth[depth > 0].mean() / 1000 for _, depth in samples]
    assert 1 < min(means) < max(means) - 1
    assert all((depth == 0).mean() < 0.2 for _, depth in samples)
    assert all(image.std() > 5 for image, _ in samples)


def test_one_camera_sees_all_rooms():
    cameras = [draw_room(np.random.default_rng(seed))[1] for seed in range(5)]
    assert len({(camera.place[2], camera.field) for camera in cameras}) == 1
    assert len({camera.tilt for camera in cameras}) == 5


@pytest.mark.parametrize('look', [FLOOR, WALL, CEILING, *(kind.look for kind in (*STANDING, *HANGING))])
def test_colours_tell_what_a_thing_is(look):
    for seed in range(8):
        hue, saturation, value = cv2.cvtColor(
            look.draw_colour(np.random.default_rng(seed))[None, None], cv2.COLOR_BGR2HSV
        )[0, 0]
        assert look.values[0] - 1e-3 <= value <= look.values[1] + 1e-3
        assert look.saturations[0] - 1e-3 <= saturation <= look.saturations[1] + 1e-3
        assert saturation < 1e-3 or look.hues[0] - 0.1 <= hue <= look.hues[1] + 0.1


def test_samples_depend_on_the_seed_and_their_number_alone(run_tool, tmp_path):
    for name, words in (
        ('few', ('--num-train', 1, '--num-val', 1)),
        ('more', ('--num-train', 2, '--num-val', 1)),
        ('other', ('--num-train', 1, '--num-val', 1, '--seed', 1)),
    ):
        run_tool('make_rooms', tmp_path / name, *words)
    few, more, other = (files(tmp_path / name) for name in ('few', 'more', 'other'))
    assert len(few) == 4
    assert few == {name: more[name] for name in few}
    assert len({*few.values(), *other.values()}) == 8


def test_the_config_reads_what_it_writes(run_tool, tmp_path):
    run_tool('make_rooms', tmp_path / 'rooms', '--num-train', 2, '--num-val', 1)
    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmseg')
    for part, count in (('train', 2), ('val', 1)):
        dataset = DATASETS.build({**cfg[f'{part}_dataloader'].dataset, 'data_root': str(tmp_path / 'rooms')})
        assert len(dataset) == count
        for sample in dataset:
            assert sample['inputs'].shape == (3, *cfg.crop_size)
            depth = sample['data_samples'].gt_depth_map.data
            assert depth.shape == (1, *cfg.crop_size)
            assert 0.3 <= depth[depth > 0].min() < depth.max() <= 10
    path = tmp_path / 'rooms/annotations/val/00000.png'
    assert (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == (depth[0].numpy() * 1000).round()).all()


def test_refuses_to_mix_rooms_and_to_draw_none(run_tool, tmp_path):
    (tmp_path / 'there').mkdir()
    for words, message in (
        ([tmp_path / 'there'], '/there exists: remove it, or choose another folder'),
        ([tmp_path / 'none', '--num-val', 0], '--num-val must be a whole number, 1 or more, got 0'),
        ([tmp_path / 'none', '--seed', -1], '--seed must be a whole number, 0 or more, got -1'),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tool('make_rooms', *words)
        assert_one_line(stopped.value, message)
    assert not (tmp_path / 'none').exists()
