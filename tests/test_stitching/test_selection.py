import pytest

from mmsnnet.errors import UserError
from mmsnnet.stitching import Record, StitchSpace, select_routes, write_records
from mmsnnet.stitching.selection import parse_selection

SPACE = StitchSpace((3, 6))
# Not in order of id: the cheapest is 3, the most_expensive 5.
GFLOPS = [20.0, 60.0, 40.0, 10.0, 55.0, 100.0, 30.0, 80.0]


def ids(routes, gflops=GFLOPS) -> list[int]:
    return [route.id for route in select_routes(SPACE, routes, gflops)]


@pytest.mark.parametrize(
    ('routes', 'expected'),
    [
        ('all', list(range(8))),
        ('anchors', [0, 1]),
        ([3, 's[0:3]', '5'], [3, 0, 5]),
        ([1, 'l[0:6]', '1'], [1]),
        ('l[0:6]', [1]),
        ('4', [4]),
        ((2,), [2]),
        ('budget:30-55', [2, 4, 6]),
        ('budget:80-1000', [5, 7]),
    ],
)
def test_selects(routes, expected):
    assert ids(routes) == expected


@pytest.mark.parametrize(
    ('count', 'expected'),
    [
        (1, [3]),  # 10
        (2, [3, 5]),  # 10 100
        (3, [3, 4, 5]),  # 10 55 100
        (4, [3, 2, 1, 5]),  # 10 40 70 100: 60 and 80 are as near to 70, the lower id goes first
    ],
)
def test_a_number_spreads_evenly_over_cost(count, expected):
    assert ids(count) == expected


@pytest.mark.parametrize('gflops', [GFLOPS, [7.0] * 8])
def test_a_number_never_repeats_a_route(gflops):
    for count in range(1, 9):
        assert len(set(ids(count, gflops))) == count


@pytest.mark.parametrize(
    ('routes', 'message'),
    [
        (0, 'a number of routes must be a whole number, from 1 to 8, got 0'),
        (9, 'from 1 to 8, got 9'),
        (-1, 'got -1'),
        (True, 'got True'),
        (None, "routes cannot be None: give 'all'; 'anchors'"),
        (2.5, 'routes cannot be 2.5'),
        ([], "selects none: give 'all'"),
        ('some', "routes cannot be 'some': give 'all'; 'anchors'"),
        ('s[0:1]-l[3:6]', "unknown route .* did you mean 's\\[0:1\\]-l\\[2:6\\]'"),
        ([0, 8], r'unknown route id 8.*0\.\.7'),
        ('budget:41-54', 'no route costs 41 to 54 GFLOPs: this space has 10 to 100'),
        ('budget:30', r"'budget:LO-HI' such as 'budget:50-120', got '30'"),
    ],
)
def test_refuses(routes, message):
    with pytest.raises(ValueError, match=message):
        ids(routes)


def test_selects_the_front_of_records(tmp_path):
    miou = [30, 50, 45, 20, 40, 49, 31, 60]
    records = [Record(r.id, r.name, r.kind, GFLOPS[r.id], 1.0, {'mIoU': miou[r.id]}) for r in SPACE]
    path = write_records(records, tmp_path / 'stitches.json')
    assert ids(f'front:{path}') == [3, 0, 6, 2, 1, 7]


def test_refuses_records_without_a_front(tmp_path):
    with pytest.raises(FileNotFoundError, match='no records at'):
        ids(f'front:{tmp_path}/none.json')
    path = write_records([Record(0, 's[0:3]', 'anchor', 1, 1)], tmp_path / 'flops.json')
    with pytest.raises(ValueError, match='has no metrics, so it has no front'):
        ids(f'front:{path}')
    path = write_records([Record(0, 's[0:12]', 'anchor', 1, 1, {'mIoU': 1})], tmp_path / 'other.json')
    with pytest.raises(ValueError, match=r"record 0 's\[0:12\]' is not of this space"):
        ids(f'front:{path}')


def test_trained_routes():
    space = StitchSpace((2, 4))
    assert [route.id for route in select_routes(space, 'trained', [0.0] * 4, frozenset({3, 0}))] == [0, 3]
    with pytest.raises(UserError, match='does not say which were trained'):
        select_routes(space, 'trained', [0.0] * 4)
    assert parse_selection(['trained']) == 'trained'
