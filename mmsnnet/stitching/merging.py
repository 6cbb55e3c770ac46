"""Which records may be in one list: those of one model, one data set, one precision and one way of timing."""

from collections.abc import Sequence
from dataclasses import replace

from mmsnnet.stitching.records import Record

# Results of a latency measurement; the other entries describe how it was made.
_FOUND = ('estimate_error_percent',)


def merge_records(earlier: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """New records, and those earlier ones of the same run that they do not replace, by id.

    A route that was evaluated again without being timed keeps its times. Times that were made in another way than the
    new ones are left out.
    """
    known = {record.id: record for record in earlier if is_of_run(record, _run(new[0]))}
    merged = known | {record.id: _with_times(record, known.get(record.id)) for record in new}
    timings = [_timing(record) for record in (*new, *known.values())]
    timing = next((timing for timing in timings if timing), None)
    return [
        record if _timing(record) in (None, timing) else _without_times(record) for _, record in sorted(merged.items())
    ]


def is_of_run(record: Record, run: dict) -> bool:
    """Whether a record is of the model, data set, precision and machine in a run's provenance."""
    return _run(record) == run


def _run(record: Record) -> dict:
    return {key: value for key, value in (record.provenance or {}).items() if key != 'latency'}


def _timing(record: Record) -> dict | None:
    """How a record's latency was measured; None where it was not."""
    latency = (record.provenance or {}).get('latency')
    return latency and {key: value for key, value in latency.items() if key not in _FOUND}


def _with_times(record: Record, before: Record | None) -> Record:
    """A record that has not been timed, with the times it had before."""
    if before is None or _timing(before) is None or _timing(record) is not None:
        return record
    provenance = {**(record.provenance or {}), 'latency': before.provenance['latency']}
    times = {name: getattr(before, name) for name in ('latency_ms', 'latency_iqr_ms', 'memory_mb')}
    return replace(record, **times, provenance=provenance)


def _without_times(record: Record) -> Record:
    return replace(record, latency_ms=None, latency_iqr_ms=None, memory_mb=None, provenance=_run(record))
