"""Law 12: records of different models, data, precisions and timings never mix."""

import pytest

from mmsnnet.stitching import Record
from mmsnnet.stitching.merging import merge_records

RUN = {'checkpoint_sha256': 'a', 'dtype': 'float32'}
TIMING = {'batch_size': 1, 'device': 'cpu'}


def record(id_: int, metric: float = 1.0, run: dict = RUN, timing: dict | None = None, ms: float = 5.0) -> Record:
    provenance = dict(run) if timing is None else {**run, 'latency': {**timing, 'estimate_error_percent': ms}}
    times = {} if timing is None else {'latency_ms': ms, 'latency_iqr_ms': ms / 10, 'memory_mb': ms * 2}
    return Record(id_, f'r{id_}', 'SL', 1.0, 1.0, {'mIoU': metric}, provenance=provenance, **times)


def test_records_of_other_routes_stay():
    assert merge_records([record(3), record(1)], [record(2)]) == [record(1), record(2), record(3)]


def test_a_route_evaluated_again_is_replaced():
    assert merge_records([record(1, 10.0), record(2)], [record(1, 20.0)]) == [record(1, 20.0), record(2)]


@pytest.mark.parametrize('other', [{'dtype': 'float16'}, {'checkpoint_sha256': 'b'}, {'tta': True}])
def test_records_of_another_run_go(other):
    assert merge_records([record(1, run=RUN | other), record(2)], [record(3)]) == [record(2), record(3)]


def test_times_stay_with_a_route_that_was_evaluated_again():
    assert merge_records([record(1, 10.0, timing=TIMING)], [record(1, 20.0)]) == [record(1, 20.0, timing=TIMING)]


def test_new_times_replace_old_ones():
    timed = record(1, timing=TIMING, ms=7.0)
    assert merge_records([record(1, timing=TIMING)], [timed]) == [timed]


def test_times_of_another_timing_go_and_their_metrics_stay():
    timed = record(2, timing=TIMING | {'batch_size': 8})
    assert merge_records([record(1, timing=TIMING)], [timed]) == [record(1), timed]
    # Also where the route that was timed otherwise is evaluated again beside it.
    assert merge_records([record(1, timing=TIMING)], [timed, record(1)]) == [record(1), timed]
