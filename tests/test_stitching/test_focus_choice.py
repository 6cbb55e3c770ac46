"""Few routes of many: one from each part of the range of costs, alike wherever they are chosen."""

import pytest
from toys import deit3_s_l_costs

from mmsnnet.stitching import StitchSpace
from mmsnnet.stitching.focus import FocusChoice, best_of_intervals, better_half, listed_routes, spread_scores
from mmsnnet.stitching.samplers import group_by_interval

SPACE = StitchSpace((3, 6))
# Eight routes: two anchors, then SL, SL, LS, LS, LSL, SLS.
GFLOPS = [1.0, 10.0, 7.0, 4.0, 4.0, 7.0, 7.1, 4.1]
SWITCHING = list(SPACE)[2:]
GROUPS = [[10, 11, 12], [20], [30, 31]]
SCORES = {10: 3.0, 11: 1.0, 12: 2.0, 20: 9.0, 30: 5.0, 31: 5.0}


def test_each_interval_gives_its_best():
    assert best_of_intervals(GROUPS, SCORES, 3) == [11, 20, 30]


def test_further_places_go_to_the_interval_with_the_most_routes_left():
    assert best_of_intervals(GROUPS, SCORES, 4) == [11, 12, 20, 30]
    assert best_of_intervals(GROUPS, SCORES, 5) == [10, 11, 12, 20, 30]
    assert best_of_intervals(GROUPS, SCORES, 6) == sorted(SCORES)


def test_the_better_half_of_each_interval_stays_and_what_the_last_round_needs():
    assert better_half(GROUPS, SCORES, 3) == [11, 12, 20, 30]
    assert better_half(GROUPS, SCORES, 5) == [10, 11, 12, 20, 30]


@pytest.mark.parametrize('count', [1, 6, 8, 10, 132])
def test_chosen_routes_of_deit3_s_l_are_spread_over_the_range_of_costs(count):
    costs = deit3_s_l_costs().gflops
    ids = range(2, 134)
    groups = [[ids[place] for place in group] for group in group_by_interval(costs[2:], count, (costs[0], costs[1]))]
    chosen = best_of_intervals(groups, {id_: -costs[id_] for id_ in ids}, count)
    assert len(set(chosen)) == count
    taken = {int((costs[id_] - costs[0]) / (costs[1] - costs[0]) * count) for id_ in chosen}
    assert len(taken) == len(groups) >= min(count, 6)


def test_what_lies_beyond_the_limits_is_in_the_first_or_last_interval():
    assert group_by_interval([0, 1, 5, 9, 12], 3, (1, 10)) == [[0, 1], [2], [3, 4]]


def test_spread_takes_kinds_in_turn_and_draws_by_seed():
    space = StitchSpace((12, 24))
    costs = deit3_s_l_costs().gflops
    groups = [[place + 2 for place in group] for group in group_by_interval(costs[2:], 8)]
    choices = set()
    for seed in range(5):
        chosen = [min(group, key=spread_scores(groups, space, seed).get) for group in groups]
        # There are two kinds at either end of the range, and all of them between.
        assert [space[id_].kind for id_ in chosen[1:-1]] == ['LS', 'LSL', 'SLS', 'SL', 'LS', 'LSL']
        choices.add(tuple(chosen))
    assert len(choices) > 1
    assert spread_scores(groups, space, 3) == spread_scores(groups, space, 3)


def test_choices_by_loss_and_draw_are_made_before_the_first_iteration():
    for by in ('loss', 'spread'):
        assert FocusChoice(routes=8, by=by).rounds(132, 1000) == [0]


@pytest.mark.parametrize(
    ('candidates', 'routes', 'rounds'),
    [(32, 8, [150, 300]), (132, 8, [60, 120, 180, 240, 300]), (6, 5, [300]), (6, 6, [300]), (8, 1, [100, 200, 300])],
)
def test_halving_has_a_round_for_each_half_up_to_a_share_of_training(candidates, routes, rounds):
    assert FocusChoice(routes=routes, by='halving').rounds(candidates, 1000) == rounds


def test_rounds_do_not_part_iterations_that_accumulate_gradients():
    assert FocusChoice(routes=1, by='halving', until=0.5).rounds(8, 20, multiple=4) == [4, 8, 12]


def test_halving_must_leave_iterations_to_train_what_it_chose():
    choice = FocusChoice(routes=1, by='halving', until=0.9)
    assert choice.rounds(2, 20) == [18]
    with pytest.raises(ValueError, match=r'focus\.until=0\.9 leaves none of the 9 iterations after the last round'):
        choice.rounds(2, 9)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({}, r"focus needs the number of routes: dict\(routes=8, by='loss'\)"),
        ({'routes': 0}, 'focus.routes must be a whole number, 1 or more, got 0'),
        ({'routes': 2.5}, 'focus.routes must be a whole number, 1 or more, got 2.5'),
        ({'routes': 2, 'by': 'luck'}, "focus.by must be one of 'spread', 'loss', 'halving', got 'luck'"),
        ({'routes': 2, 'image': 4}, "a key of focus must be one of 'routes', 'by', 'images', .*, got 'image'"),
        ({'routes': 2, 'images': 0}, 'focus.images must be a whole number, 1 or more, got 0'),
        ({'routes': 2, 'until': 0}, 'focus.until must be a number above 0, got 0'),
        ({'routes': 2, 'until': 1}, 'focus.until must be a share of training, above 0 and below 1, got 1'),
        ({'routes': 2, 'anchors': 'both'}, "focus.anchors must be one of None, True, False, got 'both'"),
    ],
)
def test_bad_choices_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=f'^{message}$'):
        FocusChoice.of(settings)


@pytest.mark.parametrize(
    ('focus', 'names'),
    [
        ([2, SPACE[5].name, 2], [SPACE[2].name, SPACE[5].name]),
        (SPACE[4].name, [SPACE[4].name]),
        ('all', [route.name for route in SWITCHING]),
        ('budget:4-4.5', [SPACE[id_].name for id_ in (3, 4, 7)]),
        # Finished anchors are left out of a word's routes.
        ('budget:1-4', [SPACE[id_].name for id_ in (3, 4)]),
    ],
)
def test_lists_and_words_name_routes(focus, names):
    assert [route.name for route in listed_routes(SPACE, SWITCHING, focus, GFLOPS)] == names


@pytest.mark.parametrize(
    ('focus', 'message'),
    [
        ([], 'selects none'),
        (['s[0:9]'], 'unknown route .* did you mean'),
        ([99], 'unknown route id 99'),
        ('some', "routes cannot be 'some'"),
        ('budget:90-99', 'no route costs 90 to 99'),
        (8, r"focus=8 does not say which routes: give dict\(routes=8, by='loss'\), or a list"),
        (['s[0:3]', 2], r"focus=\['s\[0:3\]', 2\] has nothing to train in s\[0:3\]: anchors of an exact model"),
        ('l[0:6]', r'has nothing to train in l\[0:6\]: '),
        ('anchors', r"focus='anchors' has nothing to train in s\[0:3\], l\[0:6\]: "),
    ],
)
def test_bad_lists_are_refused_in_one_line(focus, message):
    with pytest.raises(ValueError, match=message) as error:
        listed_routes(SPACE, SWITCHING, focus, GFLOPS)
    assert '\n' not in str(error.value)


def test_anchors_that_train_may_be_listed():
    assert listed_routes(SPACE, list(SPACE), ['s[0:3]', 2], GFLOPS) == [SPACE[0], SPACE[2]]
