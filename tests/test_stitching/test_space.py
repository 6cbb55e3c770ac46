"""The space against the formula of SN-Netv2, written again here, and against the released code's order."""

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

import mmsnnet.stitching
from mmsnnet.stitching import Route, Span, StitchSpace
from mmsnnet.stitching.space import boundaries

PAIRS = [(12, 24), (12, 12), (5, 7), (12, 18), (24, 40), (3, 3), (2, 3), (1, 2), (1, 1)]


def routes_of(d0: int, d1: int) -> Iterator[tuple[str, tuple]]:
    b = [round(Fraction(k * d1, d0)) for k in range(d0)]
    yield 'anchor', ((0, 0, d0),)
    yield 'anchor', ((1, 0, d1),)
    yield from (('SL', ((0, 0, k), (1, b[k], d1))) for k in range(1, d0))
    yield from (('LS', ((1, 0, b[k]), (0, k, d0))) for k in range(1, d0))
    for j in range(1, d0):
        yield from (('LSL', ((1, 0, b[j]), (0, j, k), (1, b[k], d1))) for k in range(j + 1, d0))
    for j in range(1, d0):
        yield from (('SLS', ((0, 0, j), (1, b[j], b[k]), (0, k, d0))) for k in range(j + 1, d0))


@pytest.mark.parametrize('depths', PAIRS)
def test_two_way_routes_follow_the_formula(depths):
    space = StitchSpace(depths)
    assert [(route.kind, route.spans) for route in space] == list(routes_of(*depths))
    assert [route.id for route in space] == list(range(len(space)))


@pytest.mark.parametrize('depths', PAIRS)
def test_one_way_routes_are_the_anchors_and_sl(depths):
    space = StitchSpace(depths, two_way=False)
    expected = [route for route in routes_of(*depths) if route[0] in ('anchor', 'SL')]
    assert [(route.kind, route.spans) for route in space] == expected


@pytest.mark.parametrize(
    ('depths', 'count'), [((12, 24), 134), ((12, 12), 134), ((5, 7), 22), ((24, 40), 554), ((3, 3), 8), ((1, 2), 2)]
)
def test_count(depths, count):
    assert len(StitchSpace(depths)) == count


def test_counts_of_kinds():
    kinds = Counter(route.kind for route in StitchSpace((12, 24)))
    assert kinds == {'anchor': 2, 'SL': 11, 'LS': 11, 'LSL': 55, 'SLS': 55}
    assert Counter(route.kind for route in StitchSpace((12, 24), two_way=False)) == {'anchor': 2, 'SL': 11}


def test_boundaries():
    assert boundaries(12, 24) == tuple(range(0, 25, 2))
    assert boundaries(5, 7) == (0, 1, 3, 4, 6, 7)
    # Halves round to even, as Python's round does.
    assert boundaries(12, 18) == (0, 2, 3, 4, 6, 8, 9, 10, 12, 14, 15, 16, 18)


@pytest.mark.parametrize('depths', PAIRS)
def test_boundaries_rise_strictly_to_the_depth(depths):
    b = boundaries(*depths)
    assert (b[0], b[-1]) == (0, depths[1])
    assert all(first < second for first, second in pairwise(b))


def test_a_window_of_two_gives_the_71_networks_of_sn_net():
    """Each small block may be followed by the large one of its number, or by a neighbour; 11 layers a pair."""
    space = StitchSpace((12, 12, 12), two_way=False, window=2)
    assert len(space) == 71
    assert Counter(route.kind for route in space) == {'anchor': 3, 'SL': 68}
    for entries in space.entries:
        assert {(entry.stop - 1, entry.start) for entry in entries} == {
            (last, first) for last in range(12) for first in (last - 1, last, last + 1) if 0 <= first < 12
        }
        by_layer = {k: [(e.stop - 1, e.start) for e in entries if e.k == k] for k in {entry.k for entry in entries}}
        assert by_layer[1] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert all(by_layer[k] == [(k - 1, k), (k, k - 1), (k, k)] for k in range(2, 12))
        assert len(by_layer) == 11


SWIN_TI, SWIN_S = (2, 2, 6, 2), (2, 2, 18, 2)


def test_a_window_of_two_gives_the_41_networks_of_swin():
    """One switch in each of the first two stages, 17 in the third, none in the last."""
    space = StitchSpace((SWIN_TI, SWIN_S, SWIN_S), two_way=False, window=2)
    assert len(space) == 41
    assert Counter(route.kind for route in space) == {'anchor': 3, 'SL': 38}
    unequal, equal = ([(entry.stop, entry.start) for entry in entries] for entries in space.entries)
    assert equal == [(1, 1), (3, 3), *((4 + block, 4 + block) for block in range(1, 18))]
    assert unequal == [(1, 1), (3, 3), *((4 + block // 3 + 1, 4 + block) for block in range(1, 18))]
    assert [len({entry.k for entry in entries}) for entries in space.entries] == [8, 19]
    assert all(entry.k == entry.stop for entries in space.entries for entry in entries)


def test_boundaries_of_anchors_with_stages_end_with_each_stage():
    space = StitchSpace((SWIN_TI, SWIN_S))
    assert space.boundaries == ((0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 23, 24),)
    assert len(space) == 134
    assert space.find('s[0:5]-l[7:24]').kind == 'SL'
    assert [space.stage_of(1, block) for block in (0, 1, 2, 3, 4, 21, 22, 23)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert repr(space) == 'StitchSpace(((2, 2, 6, 2), (2, 2, 18, 2)), two_way=True): 134 routes'


@pytest.mark.parametrize(
    ('depths', 'message'),
    [
        ((SWIN_TI, 24), r'must have the same number of stages, got blocks by stage \(\(2, 2, 6, 2\), 24\)'),
        ((SWIN_S, SWIN_TI), 'their depths must not decrease: got'),
        (((1, 3), (2, 2)), r'their depths must not decrease: got \(\(1, 3\), \(2, 2\)\)'),
        (((1, 0), (1, 1)), 'one block or more in every stage'),
    ],
)
def test_refuses_stages_that_do_not_correspond(depths, message):
    with pytest.raises(ValueError, match=message):
        StitchSpace(depths)


@pytest.mark.parametrize(
    ('depths', 'two_way', 'window', 'message'),
    [
        ((3, 6), False, 2, 'window=2 is for anchors of one depth or with stages, one way: got depths'),
        ((3, 3), True, 2, 'set two_way=False, or leave out window'),
        ((3, 3), False, 0, 'window must be a whole number, from 1 to 3'),
        ((3, 3), False, 4, 'window must be a whole number, from 1 to 3'),
        ((SWIN_TI, SWIN_S), True, 2, 'set two_way=False, or leave out window'),
        ((SWIN_TI, SWIN_S), False, 3, 'window must be a whole number, from 2 to 2'),
    ],
)
def test_refuses_windows(depths, two_way, window, message):
    with pytest.raises(ValueError, match=message):
        StitchSpace(depths, two_way, window)


@pytest.mark.parametrize('depths', [(2, 3, 5), (3, 3, 3), (2, 2, 4, 5)])
def test_more_anchors_stitch_neighbours_and_share_the_anchor_routes(depths):
    space = StitchSpace(depths)
    expected = [('anchor', ((anchor, 0, depth),)) for anchor, depth in enumerate(depths)]
    for small, pair in enumerate(pairwise(depths)):
        for kind, spans in list(routes_of(*pair))[2:]:
            expected.append((kind, tuple((anchor + small, start, stop) for anchor, start, stop in spans)))
    assert [(route.kind, route.spans) for route in space] == expected


@pytest.mark.parametrize(
    ('depths', 'letters'),
    [*((depths, 'sl') for depths in PAIRS), ((2, 3, 5), 'sml'), ((2, 2, 3, 3), ['a0_', 'a1_', 'a2_', 'a3_'])],
)
def test_names_are_unique_and_show_the_spans(depths, letters):
    space = StitchSpace(depths)
    assert len({route.name for route in space}) == len(space)
    for route in space:
        spans = [re.fullmatch(r'(\w+)\[(\d+):(\d+)\]', part).groups() for part in route.name.split('-')]
        assert tuple((letters.index(name), int(start), int(stop)) for name, start, stop in spans) == route.spans


def test_a_route_reads_as_its_name():
    route = StitchSpace((12, 24))[4]
    assert str(route) == route.name == 's[0:3]-l[6:24]'
    assert route.spans[1] == Span(anchor=1, start=6, stop=24)


@pytest.mark.parametrize(
    ('depths', 'message'),
    [((), 'got none'), ((24, 12), 'not decrease'), ((0, 2), 'one block')],
)
def test_refuses_depths(depths, message):
    with pytest.raises(ValueError, match=message):
        StitchSpace(depths)


def test_a_single_anchor_has_a_single_route():
    (route,) = StitchSpace((12,))
    assert (route.name, route.kind, route.spans) == ('a[0:12]', 'anchor', ((0, 0, 12),))


@pytest.mark.parametrize('key', [4, '4', 's[0:3]-l[6:24]', StitchSpace((12, 24))[4]])
def test_finds_by_id_digits_name_and_equal_route(key):
    assert StitchSpace((12, 24)).find(key).spans == ((0, 0, 3), (1, 6, 24))


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        (134, r'134.*0\.\.133'),
        (-1, r'-1.*0\.\.133'),
        ('134', r'134.*0\.\.133'),
        (
            's[0:3]-l[5:24]',
            r"unknown route.*134 routes, ids 0\.\.133.*did you mean 's\[0:3\]-l\[6:24\]'",
        ),
        ('', 'unknown route'),
        (StitchSpace((12, 12))[4], r"'s\[0:3\]-l\[3:12\]' \(id 4\) is not of this space"),
        (Route(5, 's[0:3]-l[6:24]', 'SL', StitchSpace((12, 24))[4].spans), 'not of this space'),
    ],
)
def test_find_says_what_exists(key, message):
    with pytest.raises(ValueError, match=message):
        StitchSpace((12, 24)).find(key)


def test_order_is_the_released_code_s_without_its_degenerate_id(shared_file):
    stitches = json.loads(shared_file('golden/published_ade20k_s_l.json').read_text())['stitches']
    kind_of = {stitch['official_id']: stitch['kind'] for stitch in stitches}
    for route in StitchSpace((12, 24)):
        assert kind_of[route.id if route.id < 13 else route.id + 1] == route.kind


def test_stitching_imports_nothing_but_the_standard_library():
    for file in Path(mmsnnet.stitching.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                is_own = name.startswith(('mmsnnet.stitching', 'mmsnnet.errors', 'mmsnnet.files', 'mmsnnet.settings'))
                assert is_own or name.split('.')[0] in sys.stdlib_module_names
