import math
import random
from itertools import pairwise

import pytest

from mmsnnet.stitching import BudgetController, BudgetTable, Record, select


def record(id_: int, gflops: float, miou: float, latency_ms: float | None = None) -> Record:
    return Record(id_, f'r{id_}', 'SL', gflops, gflops / 2, {'aAcc': 99.0, 'mIoU': miou}, latency_ms)


RECORDS = [
    record(0, 10, 30, 5),
    record(1, 20, 40, 12),
    record(2, 20, 38, 8),
    record(3, 30, 39, 15),
    record(4, 50, 50, 30),
    record(5, 60, math.nan, 31),
]


@pytest.mark.parametrize(
    ('wanted', 'id_'),
    [
        ({'gflops': 10}, 0),
        ({'gflops': 49.9}, 1),
        ({'gflops': 1000}, 4),
        ({'latency_ms': 9}, 2),
        ({'gflops': 30, 'latency_ms': 10}, 2),
        ({'params_m': 5}, 0),
        ({'gflops': 30, 'metric': 'aAcc'}, 0),
        ({'min_metric': 38}, 1),
        ({'min_metric': 38, 'latency_ms': 100}, 2),
        ({'min_metric': 45, 'gflops': 55}, 4),
    ],
)
def test_selects(wanted, id_):
    assert select(RECORDS, **wanted).id == id_


def test_table_selects_the_same():
    table = BudgetTable(RECORDS)
    for cost in ('gflops', 'latency_ms', 'params_m'):
        for most in range(10, 100):
            assert table.best(**{cost: most}) == select(RECORDS, **{cost: most})
    assert table.best(gflops=30, latency_ms=10).id == 2


def test_table_selects_the_same_by_several_budgets():
    rng = random.Random(0)
    costs = ('gflops', 'latency_ms', 'memory_mb')
    # Few different values, so that records tie.
    records = [
        Record(
            id_, f'r{id_}', 'SL', rng.randint(1, 9), 1.0, {'mIoU': rng.randint(0, 9)}, rng.randint(1, 9), 0.1, id_ % 7
        )
        for id_ in range(100)
    ]
    table = BudgetTable(records)
    for _ in range(300):
        budgets = {cost: rng.randint(3, 9) for cost in rng.sample(costs, rng.randint(2, 3))}
        assert table.best(**budgets) == select(records, **budgets)


@pytest.mark.parametrize(
    'find', [lambda **wanted: select(RECORDS, **wanted), lambda **wanted: BudgetTable(RECORDS).best(**wanted)]
)
@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        ({'gflops': 9}, r'no route has gflops <= 9; the nearest is r0 \(id 0\): gflops 10, mIoU 30'),
        ({'latency_ms': 1, 'gflops': 100}, r'latency_ms <= 1 and gflops <= 100; the nearest is r0'),
        ({'memory_mb': 5}, 'r0 has no memory_mb: measure it'),
        ({'watts': 5}, "unknown budget 'watts': choose from gflops, latency_ms"),
        ({}, r'give a budget \(gflops'),
    ],
)
def test_tells_what_cannot_be_met(find, wanted, message):
    with pytest.raises(ValueError, match=message):
        find(**wanted)


def test_tells_an_unreachable_metric():
    with pytest.raises(ValueError, match=r'mIoU >= 60; the nearest is r4 \(id 4\): mIoU 50'):
        select(RECORDS, min_metric=60)
    with pytest.raises(ValueError, match="no metric 'mAP', it has"):
        select(RECORDS, gflops=60, metric='mAP')
    with pytest.raises(ValueError, match='no records'):
        select([], gflops=60)
    with pytest.raises(ValueError, match='have no metric'):
        select([Record(0, 'a', 'SL', 1, 1)], gflops=60)


class Device:
    """A device whose load slows all routes down, with jitter."""

    def __init__(self, load: float = 1.0) -> None:
        self.load = load
        self._random = random.Random(0)

    def run(self, record: Record) -> float:
        return record.latency_ms * self.load * self._random.uniform(0.97, 1.03)


def drive(controller: BudgetController, device: Device, frames: int) -> list[tuple[int, float]]:
    """(route, milliseconds) of each frame."""
    history = []
    for _ in range(frames):
        record = controller.record
        history.append((record.id, device.run(record)))
        controller.update(history[-1][1])
    return history


def test_controller_starts_with_the_best_in_time():
    assert BudgetController(RECORDS, target_ms=20).record.id == 1
    assert BudgetController(RECORDS, target_ms=1).record.id == 0


def test_controller_gives_way_at_once_and_comes_back_after_patience():
    controller, device = BudgetController(RECORDS, target_ms=20, patience=5), Device()
    assert {id_ for id_, _ in drive(controller, device, 20)} == {1}
    device.load = 2.2
    slow = drive(controller, device, 20)
    assert slow[0][1] > 20
    assert {id_ for id_, _ in slow[1:]} == {2}
    assert all(ms <= 20 for _, ms in slow[1:])
    device.load = 1.0
    recovered = [id_ for id_, _ in drive(controller, device, 40)]
    first = recovered.index(1)
    # The window must forget the slow frames first.
    assert 4 <= first <= 10
    assert set(recovered[first:]) == {1}


def test_controller_skips_routes_that_would_be_too_slow():
    controller, device = BudgetController(RECORDS, target_ms=35), Device()
    assert controller.record.id == 4
    device.load = 6
    assert [id_ for id_, _ in drive(controller, device, 3)] == [4, 0, 0]


def test_controller_knows_what_a_frame_takes_beside_the_model():
    """With 20 ms of loading and painting, a route of 5 ms and one of 12 ms hardly differ."""
    controller = BudgetController(RECORDS, target_ms=40, patience=3, overhead_ms=20)
    assert controller.record.id == 1
    controller.update(80)
    assert controller.record.id == 0
    for _ in range(3):
        controller.update(25)
    assert controller.record.id == 1
    with pytest.raises(ValueError, match='overhead_ms must be 0 or more'):
        BudgetController(RECORDS, target_ms=40, overhead_ms=-1)


def test_controller_does_not_flutter_near_a_limit():
    """Load at which the better route just misses its headroom, and jitter around it."""
    controller, device = BudgetController(RECORDS, target_ms=12.4, patience=5), Device(load=1.0)
    ids = [id_ for id_, _ in drive(controller, device, 500)]
    assert sum(first != second for first, second in pairwise(ids)) <= 1


def test_controller_holds_the_target_under_a_changing_load():
    controller, device = BudgetController(RECORDS, target_ms=20, patience=10), Device()
    history = []
    for step in range(2000):
        device.load = 1.5 + 1.4 * math.sin(step / 150)
        history += drive(controller, device, 1)
    late = sum(ms > 20 for _, ms in history)
    assert late <= 0.02 * len(history)
    assert {id_ for id_, _ in history} >= {0, 1, 2}


@pytest.mark.parametrize(
    ('wanted', 'message'),
    [
        ({'target_ms': 0}, 'above 0'),
        ({'target_ms': 5, 'headroom': 1}, 'headroom is a share'),
        ({'target_ms': 5, 'metric': 'x'}, 'no metric'),
    ],
)
def test_controller_refuses(wanted, message):
    with pytest.raises(ValueError, match=message):
        BudgetController(RECORDS, **wanted)
    with pytest.raises(ValueError, match='frame_ms must be above 0'):
        BudgetController(RECORDS, 10).update(0)
