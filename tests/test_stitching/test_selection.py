import pytest

from mmsnnet.stitching import StitchSpace, select_routes

SPACE = StitchSpace.two_way((3, 6))
# Not in order of id: the cheapest is 3, the dearest 5.
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
        (0, 'cannot select 0 routes: this space has 8'),
        (9, 'cannot select 9 routes: this space has 8'),
        (-1, 'cannot select -1'),
        ([], "no routes selected.*'all'"),
        ('some', "unknown route 'some'"),
        ([0, 8], r'unknown route id 8.*0\.\.7'),
    ],
)
def test_refuses(routes, message):
    with pytest.raises(ValueError, match=message):
        ids(routes)
