"""Routes against the mixing line."""

import pytest

from tools.experiments.lines import Point, height, mean_difference, share_below, share_on_or_above, upper_hull

LINE = [Point(1, 30), Point(5, 50)]


def test_height_lies_between_the_ends():
    assert [height(LINE, gflops) for gflops in (1, 2, 5)] == [30, 35, 50]
    with pytest.raises(ValueError, match='6 GFLOPs are outside of 1 to 5'):
        height(LINE, 6)


def test_hull_leaves_out_what_mixing_others_reaches():
    above, below, on = Point(2, 40), Point(3, 42), Point(1.5, 35)
    assert upper_hull([LINE[1], below, on, above, LINE[0]]) == [LINE[0], above, LINE[1]]


def test_hull_takes_the_best_of_equal_costs():
    assert upper_hull([Point(1, 30), Point(3, 45), Point(3, 20), Point(1, 10), Point(5, 50)]) == [
        Point(1, 30),
        Point(3, 45),
        Point(5, 50),
    ]


def test_a_hull_may_fall():
    assert upper_hull([Point(1, 30), Point(3, 45), Point(5, 44)]) == [Point(1, 30), Point(3, 45), Point(5, 44)]


def test_mean_difference_is_the_area_between():
    # A triangle 5 high at its tip.
    assert mean_difference([LINE[0], Point(2, 40), LINE[1]], LINE) == pytest.approx(2.5)
    assert mean_difference(LINE, [LINE[0], Point(2, 40), LINE[1]]) == pytest.approx(-2.5)


def test_mean_difference_is_of_the_costs_that_both_cover():
    assert mean_difference([Point(2, 36), Point(4, 46)], LINE) == pytest.approx(1)
    assert mean_difference([Point(2, 36), Point(9, 71)], LINE) == pytest.approx(1)


def test_shares():
    points = [Point(2, 29), Point(2, 35), Point(3, 39.9), Point(4, 46)]
    assert share_below(points, 30) == 0.25
    assert share_on_or_above(points, LINE) == 0.5
