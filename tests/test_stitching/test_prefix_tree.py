from itertools import pairwise

import pytest

from mmsnnet.stitching import Run, StitchSpace, make_plan
from mmsnnet.stitching.prefix_tree import PrefixTree

SPACES = {
    '12/24': (StitchSpace((12, 24)), (9, 14, 19, 23)),
    '12/12': (StitchSpace((12, 12)), (2, 5, 8, 11)),
    '5/7': (StitchSpace((5, 7)), (2, 6)),
    'one way': (StitchSpace((12, 24), two_way=False), (23,)),
    'three anchors': (StitchSpace((3, 4, 6)), (1, 5)),
    'early levels': (StitchSpace((4, 8)), (1, 3)),
}


def blocks(steps) -> list[tuple[int, int]]:
    return [(step.anchor, block) for step in steps if isinstance(step, Run) for block in range(step.start, step.stop)]


def without_runs(steps) -> list:
    return [step for step in steps if not isinstance(step, Run)]


@pytest.fixture(params=SPACES)
def space_and_indices(request):
    return SPACES[request.param]


def plans(space, out_indices):
    return {route: make_plan(space, route, out_indices) for route in space}


def test_paths_are_the_routes_plans(space_and_indices):
    space, out_indices = space_and_indices
    tree = PrefixTree(plans(space, out_indices))
    assert sorted(tree.routes, key=lambda route: route.id) == list(space)
    for route in space:
        steps = [step for node in tree.path(route) for step in node.steps]
        plan = make_plan(space, route, out_indices)
        assert blocks(steps) == blocks(plan)
        assert without_runs(steps) == without_runs(plan)
        assert route in tree.path(route)[-1].routes


def test_branches_part_at_their_first_step(space_and_indices):
    """Otherwise something would be computed twice."""
    space, out_indices = space_and_indices
    for node in PrefixTree(plans(space, out_indices)).root.walk():
        starts = [step[:2] if isinstance(step, Run) else step for step in (child.steps[0] for child in node.children)]
        assert len(set(starts)) == len(starts)
        assert len(node.children) != 1 or not node.steps


def test_routes_come_in_the_order_of_the_walk(space_and_indices):
    space, out_indices = space_and_indices
    tree = PrefixTree(plans(space, out_indices))
    assert tree.routes == [route for node in tree.root.walk() for route in node.routes]


def test_any_route_can_be_last(space_and_indices):
    space, out_indices = space_and_indices
    for last in list(space)[::4]:
        tree = PrefixTree(plans(space, out_indices), last)
        assert tree.routes[-1] == last
        # Still depth first: places that two routes in a row share are never left in between.
        positions = {route: position for position, route in enumerate(tree.routes)}
        for node in tree.root.walk():
            inside = sorted(positions[route] for below in node.walk() for route in below.routes)
            assert all(second == first + 1 for first, second in pairwise(inside)) or last in tree.path(last)[-1].routes


def test_work_of_the_published_space_shrinks_2_7_times():
    space, out_indices = SPACES['12/24']
    alone = [block for route in space for block in blocks(make_plan(space, route, out_indices))]
    shared = blocks(PrefixTree(plans(space, out_indices)).steps())
    # GFLOPs of a block at 512x512.
    cost = (33.5 / 12, 362.2 / 24)
    assert sum(cost[anchor] for anchor, _ in alone) / sum(cost[anchor] for anchor, _ in shared) == pytest.approx(
        2.7, 0.01
    )
    assert (shared.count((0, 11)), shared.count((1, 23))) == (1 + 11 + 55, 1 + 11 + 55)


def test_routes_that_differ_after_the_last_level_only_end_together():
    space, out_indices = SPACES['early levels']
    tree = PrefixTree(plans(space, out_indices))
    large = tree.path(space.find('l[0:8]'))[-1]
    assert space.find('l[0:6]-s[3:4]') in large.routes


def test_some_routes_only():
    space, out_indices = SPACES['12/24']
    routes = [space.find(name) for name in ('s[0:12]', 's[0:3]-l[6:24]', 'l[0:24]')]
    tree = PrefixTree({route: make_plan(space, route, out_indices) for route in routes}, last=routes[0])
    assert set(tree.routes) == set(routes)
    assert tree.routes[-1] == routes[0]
    assert [len(tree.path(route)) for route in routes] == [2, 2, 1]
