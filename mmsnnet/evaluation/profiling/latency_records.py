"""Latency and memory of records, and what an interrupted measurement leaves."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles

from mmengine.logging import print_log
from torch import nn
from tqdm import tqdm

from mmsnnet.errors import UserError
from mmsnnet.evaluation.profiling.latency import LatencyBench, LatencySetting, Measurement
from mmsnnet.evaluation.provenance import describe_device
from mmsnnet.evaluation.run_identity import as_json, differences, tell_differences
from mmsnnet.files import write_json
from mmsnnet.settings import check_word
from mmsnnet.stitching import Record, Route

Measurements = dict[Route, Measurement]

METHODS = ('measure', 'estimate')
SAVE_SECONDS = 20.0
# Mixed precision keeps parameters in float32.
PARAMETER_BYTES = 4


@dataclass(frozen=True)
class LatencyJob:
    """How records get their times.

    Attributes:
        method: ``'measure'`` each route, or ``'estimate'`` from the times of parts.
        setting: how to time.
        path: JSON file for all samples, written as they come.
        resume: keep the samples in the file if they are of the same job.
    """

    method: str
    setting: LatencySetting
    path: Path
    resume: bool = False

    def __post_init__(self) -> None:
        check_word('the method of latency', self.method, METHODS)
        if self.method == 'estimate' and self.setting.cuda_graph:
            raise UserError("a CUDA graph times whole passes: take method='measure', or leave out cuda_graph")


def with_latency(records: Sequence[Record], model: nn.Module, job: LatencyJob) -> list[Record]:
    """The records with what their routes take: ``latency_ms`` and, if measured, its spread and ``memory_mb``.

    Args:
        records: of routes of ``model``, all of one run.
    """
    bench = LatencyBench(model, job.setting)
    routes = [bench.backbone.space[record.id] for record in records]
    estimates = bench.estimate(routes)
    details = {'method': job.method, **asdict(job.setting), 'device': describe_device(bench.device)}
    if job.method == 'estimate':
        costs = [{'latency_ms': estimates[route], 'latency_iqr_ms': None, 'memory_mb': None} for route in routes]
    else:
        run = {key: value for key, value in (records[0].provenance or {}).items() if key != 'latency'}
        measured = _measure(bench, routes, job, {**run, 'latency': details})
        costs = [_measured_costs(record, measured[route]) for record, route in zip(records, routes, strict=True)]
        details = {**details, 'estimate_error_percent': _estimate_errors(estimates, measured)}
    return [
        replace(record, **cost, provenance={**(record.provenance or {}), 'latency': as_json(details)})
        for record, cost in zip(records, costs, strict=True)
    ]


def _measured_costs(record: Record, measurement: Measurement) -> dict[str, float]:
    parameters_mb = record.params_m * 1e6 * PARAMETER_BYTES / 2**20
    return {
        'latency_ms': median(measurement.samples_ms),
        'latency_iqr_ms': interquartile_range(measurement.samples_ms),
        'memory_mb': parameters_mb + measurement.activations_mb,
    }


def _estimate_errors(estimates: dict[Route, float], measured: Measurements) -> dict[str, float]:
    """By how many percent estimates miss the measured times."""
    errors = [abs(estimates[route] / median(taken.samples_ms) - 1) * 100 for route, taken in measured.items()]
    return {'median': round(median(errors), 2), 'largest': round(max(errors), 2)}


def interquartile_range(samples: Sequence[float]) -> float:
    """Distance between the quartiles; 0 of a single sample."""
    if len(samples) < 2:
        return 0.0
    first, _, third = quantiles(samples, n=4, method='inclusive')
    return third - first


def _measure(bench: LatencyBench, routes: Sequence[Route], job: LatencyJob, run: dict) -> Measurements:
    """Measure with a progress bar, saving now and then."""
    known = _load(job.path, routes, run) if job.resume else {}
    done = sum(len(measurement.samples_ms) for measurement in known.values())
    total = len(routes) * bench.setting.repetitions
    saved_at = time.monotonic()
    with tqdm(desc='latency', total=total, initial=done, dynamic_ncols=True) as bar:

        def save(measured: Measurements) -> None:
            nonlocal saved_at
            bar.update()
            if time.monotonic() - saved_at >= SAVE_SECONDS:
                _save(job.path, measured, run)
                saved_at = time.monotonic()

        measured = bench.measure(routes, known, save)
    _save(job.path, measured, run)
    return measured


def _save(path: Path, measured: Measurements, run: dict) -> None:
    routes = {route.name: asdict(measurement) for route, measurement in measured.items() if measurement}
    content = {'run': as_json(run), 'routes': routes}
    write_json(path, content)


def _load(path: Path, routes: Sequence[Route], run: dict) -> Measurements:
    """Measurements of the same model, setting and device; none of others."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    found = list(differences(content.get('run', {}), as_json(run))) if content else []
    if found:
        print_log(f'starting over with latency: in {path}, {tell_differences(found)}', 'current', logging.WARNING)
    known = {} if found else content.get('routes', {})
    return {route: Measurement(**known[route.name]) for route in routes if route.name in known}
