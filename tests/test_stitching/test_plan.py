"""A plan carried out by hand: tokens are the trail of what happened to them, such as ``('b0.0', 'u0.1', 'b1.2')``."""

from collections.abc import Sequence

import pytest

from mmsnnet.stitching import SHARED, Exit, Layer, Plan, Route, Run, StitchSpace, Switch, Tap, all_layers, make_plan
from mmsnnet.stitching.plan import tapped_block, used_layers

Trail = tuple[str, ...]

LARGE = Exit(1)
PAIRS = [(12, 24), (12, 12), (5, 7), (12, 18), (24, 40), (3, 3), (2, 3), (1, 2)]
TRIPLES = [(2, 3, 5), (3, 3, 3), (4, 4, 6)]


def out_indices_of(depth: int) -> list[tuple[int, ...]]:
    """The last block; four levels as published; every block; unsorted and repeated ones."""
    four = tuple(sorted({round(depth * part) - 1 for part in (0.42, 0.63, 0.83, 1)} - {-1}))
    return [(depth - 1,), four, tuple(range(depth)), (depth - 1, 0, depth - 1)]


def name(layer: Layer) -> str:
    return f'{layer.direction}{layer.pair}.{layer.k}'


def block_name(anchor: int, block: int) -> str:
    return f'block{anchor}.{block}'


def carry_out(plan: Plan) -> tuple[dict[int, list[Trail]], list[Trail]]:
    """What each level received, and every result computed on the way."""
    trail: Trail = ()
    levels: dict[int, list[Trail]] = {}
    results: list[Trail] = []
    for step in plan:
        if isinstance(step, Run):
            assert step.start < step.stop
            for block in range(step.start, step.stop):
                trail = (*trail, block_name(step.anchor, block))
                results.append(trail)
        elif isinstance(step, Switch):
            trail = (*trail, name(step.layer))
            results.append(trail)
        else:
            tapped = trail
            for layer in step.layers:
                tapped = (*tapped, name(layer))
                results.append(tapped)
            for level in step.levels:
                levels.setdefault(level, []).append(tapped)
    return levels, results


def layers_to_exit(space: StitchSpace, anchor: int, blocks: int, out_index: int, exit_anchor: int) -> Trail:
    """Layers between an anchor after ``blocks`` blocks, where ``out_index`` leaves, and another anchor's width."""
    if anchor == exit_anchor:
        return ()
    if anchor > exit_anchor:
        k = stand_in(space, anchor - 1, out_index) + 1
        return (f'down{anchor - 1}.{k}', *layers_to_exit(space, anchor - 1, k, out_index, exit_anchor))
    after = round(blocks * space.depths[anchor + 1] / space.depths[anchor])
    return (f'up{anchor}.{blocks}', *layers_to_exit(space, anchor + 1, after, out_index, exit_anchor))


def stand_in(space: StitchSpace, anchor: int, out_index: int) -> int:
    """The block that stands for the largest anchor's ``out_index``: s = max{k : b_k <= o}, pair by pair."""
    if anchor == len(space.depths) - 1:
        return out_index
    out_index = stand_in(space, anchor + 1, out_index)
    small, large = space.depths[anchor : anchor + 2]
    return max(k for k in range(small) if round(k * large / small) <= out_index)


def expected_levels(
    space: StitchSpace, route: Route, out_indices: Sequence[int], own_exit: bool
) -> dict[int, list[Trail]]:
    exit_anchor = route.spans[-1].anchor if own_exit else len(space.depths) - 1
    levels: dict[int, list[Trail]] = {}
    trail: Trail = ()
    for index, (anchor, start, stop) in enumerate(route.spans):
        if index and route.spans[index - 1].anchor < anchor:
            trail = (*trail, f'up{anchor - 1}.{route.spans[index - 1].stop}')
        elif index:
            trail = (*trail, f'down{anchor}.{start}')
        for block in range(start, stop):
            trail = (*trail, block_name(anchor, block))
            for level, out_index in enumerate(out_indices):
                if stand_in(space, anchor, out_index) == block:
                    tapped = (*trail, *layers_to_exit(space, anchor, block + 1, out_index, exit_anchor))
                    levels.setdefault(level, []).append(tapped)
    return levels


@pytest.mark.parametrize('own_exit', [False, True])
@pytest.mark.parametrize('depths', [*PAIRS, *TRIPLES])
def test_every_route_emits_every_level_once(depths, own_exit):
    space = StitchSpace(depths)
    for out_indices in out_indices_of(depths[-1]):
        for route in space:
            levels, _ = carry_out(make_plan(space, route, out_indices, own_exit))
            assert levels == expected_levels(space, route, out_indices, own_exit)
            assert sorted(levels) == list(range(len(out_indices)))
            assert all(len(received) == 1 for received in levels.values())


@pytest.mark.parametrize('own_exit', [False, True])
@pytest.mark.parametrize('depths', [*PAIRS, *TRIPLES])
def test_nothing_is_computed_twice(depths, own_exit):
    space = StitchSpace(depths)
    for out_indices in out_indices_of(depths[-1]):
        for route in space:
            _, results = carry_out(make_plan(space, route, out_indices, own_exit))
            assert len(results) == len(set(results)), route


@pytest.mark.parametrize('depths', [*PAIRS, *TRIPLES])
def test_runs_make_up_exactly_the_spans(depths):
    space = StitchSpace(depths)
    for out_indices in out_indices_of(depths[-1]):
        for route in space:
            runs = [step for step in make_plan(space, route, out_indices) if isinstance(step, Run)]
            blocks = [(run.anchor, block) for run in runs for block in range(run.start, run.stop)]
            assert blocks == [(anchor, block) for anchor, *span in route.spans for block in range(*span)]


@pytest.mark.parametrize('own_exits', [False, True])
@pytest.mark.parametrize('depths', [*PAIRS, *TRIPLES])
@pytest.mark.parametrize('two_way', [True, False])
def test_layers_of_all_plans_are_exactly_all_layers(depths, two_way, own_exits):
    space = StitchSpace(depths, two_way)
    plans = [make_plan(space, route, range(depths[-1]), own_exits) for route in space]
    used = {layer for plan in plans for layer in used_layers(plan)}
    listed = all_layers(space, own_exits)
    assert len(listed) == len(set(listed))
    if len(depths) == 2:
        assert used == set(listed)
    else:
        assert used <= set(listed)


@pytest.mark.parametrize('own_exits', [False, True])
@pytest.mark.parametrize(
    ('depths', 'out_indices'),
    [((4, 4, 4), (1, 3)), (((2, 2), (2, 6), (3, 7)), (2, 9)), (((1, 2, 1), (2, 4, 2)), (1, 5, 7))],
)
def test_levels_leave_a_window_through_layers_of_their_own(depths, out_indices, own_exits):
    space = StitchSpace(depths, two_way=False, window=2)
    plans = [make_plan(space, route, out_indices, own_exits) for route in space]
    listed = all_layers(space, own_exits, out_indices)
    assert len(listed) == len(set(listed))
    assert {layer for plan in plans for layer in used_layers(plan)} == set(listed)
    assert own_exits or any(layer.direction == 'out' for layer in listed)
    for plan in plans:
        taps = [step for step in plan if isinstance(step, Tap)]
        assert sorted(level for tap in taps for level in tap.levels) == list(range(len(out_indices)))
        assert all(layer.direction == 'out' for tap in taps for layer in tap.layers)
        stages = {level: tap.stage for tap in taps for level in tap.levels}
        assert all(space.stage_of(len(depths) - 1, out) == stages[level] for level, out in enumerate(out_indices))


@pytest.mark.parametrize('own_exits', [False, True])
@pytest.mark.parametrize('window', [1, 2, 3, 4])
def test_every_level_leaves_a_window_once(window, own_exits):
    """A wide one may skip blocks. Their level leaves before the gap."""
    space = StitchSpace((4, 4, 4), two_way=False, window=window)
    for route in space:
        taps = [step for step in make_plan(space, route, (0, 1, 2, 3), own_exits) if isinstance(step, Tap)]
        assert [level for tap in taps for level in tap.levels] == [0, 1, 2, 3], route


def test_all_layers_of_12_24():
    layers = all_layers(StitchSpace((12, 24)))
    assert layers == [*(Layer('up', 0, k) for k in range(1, 13)), *(Layer('down', 0, k) for k in range(1, 12))]
    assert not any(layer.direction == 'down' for layer in all_layers(StitchSpace((12, 24), two_way=False)))


def test_tap_and_switch_at_one_block_share_the_layer():
    space = StitchSpace((2, 4))
    up = Layer('up', 0, 1)
    assert make_plan(space, space.find('s[0:1]-l[2:4]'), (1, 3)) == (
        Run(0, 0, 1),
        Switch(up),
        Tap((0,), (), LARGE),
        Run(1, 2, 4),
        Tap((1,), (), LARGE),
    )


def test_tap_before_a_switch_down_is_direct():
    space = StitchSpace((2, 4))
    assert make_plan(space, space.find('l[0:2]-s[1:2]'), (1, 3)) == (
        Run(1, 0, 2),
        Tap((0,), (), LARGE),
        Switch(Layer('down', 0, 1)),
        Run(0, 1, 2),
        Tap((1,), (Layer('up', 0, 2),), LARGE),
    )


def test_a_small_anchor_of_three_taps_through_composed_layers():
    space = StitchSpace((2, 4, 8))
    assert make_plan(space, space[0], (7,))[-1] == Tap((0,), (Layer('up', 0, 2), Layer('up', 1, 4)), Exit(2))
    # The switch is the first of the two layers: computed once, the tap goes on from there.
    plan = make_plan(space, space.find('s[0:1]-m[2:4]'), (3, 7))
    assert plan[:3] == (Run(0, 0, 1), Switch(Layer('up', 0, 1)), Tap((0,), (Layer('up', 1, 2),), Exit(2)))


@pytest.mark.parametrize(
    ('depths', 'out_index', 'block'),
    [
        *(((12, 24), out_index, block) for out_index, block in ((0, 0), (1, 0), (2, 1), (9, 4), (14, 7), (23, 11))),
        *(((12, 12), out_index, out_index) for out_index in (0, 5, 11)),
        # b = 0 1 3 4 6
        *(((5, 7), out_index, block) for out_index, block in enumerate((0, 1, 1, 2, 3, 3, 4))),
        # Through the middle: 7 -> 3 -> 1 and 3 -> 1 -> 0.
        ((2, 4, 8), 7, 1),
        ((2, 4, 8), 3, 0),
    ],
)
def test_block_that_stands_for_an_out_index(depths, out_index, block):
    assert tapped_block(StitchSpace(depths), 0, out_index) == block


@pytest.mark.parametrize('out_indices', [(0,), (1,), (0, 2)])
def test_nothing_runs_after_the_last_tap(out_indices):
    space = StitchSpace((2, 4))
    assert all(isinstance(make_plan(space, route, out_indices)[-1], Tap) for route in space)


def test_a_tuning_is_in_all_steps_of_a_route():
    space = StitchSpace((2, 4))
    route = space.find('l[0:2]-s[1:2]')
    own = make_plan(space, route, (1, 3), own_exit=True, tuning=route.name)
    down = Layer('down', 0, 1, route.name)
    exit_ = Exit(0, route.name)
    assert own == (
        Run(1, 0, 2, route.name),
        Switch(down),
        Tap((0,), (), exit_),
        Run(0, 1, 2, route.name),
        Tap((1,), (), exit_),
    )
    # Routes with one tuning share their stitching layers.
    assert make_plan(space, route, (1, 3), own_exit=True, tuning=SHARED)[1] == Switch(Layer('down', 0, 1))
