"""Latency and memory of records, and what an interrupted measurement leaves."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles

from torch import nn
from tqdm import tqdm

from mmsnnet.evaluation.latency import LatencyBench, LatencySetting, Measurement
from mmsnnet.evaluation.provenance import describe_device
from mmsnnet.stitching import Record, Route
from mmsnnet.stitching.records import write_file

Measurements = dict[Route, Measurement]

SAVE_SECONDS = 20.0
# Mixed precision keeps parameters in float32.
PARAMETER_BYTES = 4


def add_latency(
    records: Sequence[Record],
    model: nn.Module,
    setting: LatencySetting,
    method: str,
    path: Path,
    resume: bool = False,
) -> None:
    """Note in records what their routes take: ``latency_ms`` and, if measured, its spread and ``memory_mb``.

    Args:
        records: of routes of ``model``.
        method: ``'measure'`` each route, or ``'estimate'`` from the times of parts.
        path: JSON file for all samples, written as they come.
        resume: go on with the samples that are there, if they are of this setting.
    """
    bench = LatencyBench(model, setting)
    routes = [bench.backbone.space[record.id] for record in records]
    estimates = bench.estimate(routes)
    details = {'method': method, **asdict(setting), 'device': describe_device(bench.device)}
    if method == 'measure':
        measured = _measure(bench, routes, details, path, resume)
        errors = [abs(estimates[route] / median(measured[route].samples_ms) - 1) * 100 for route in routes]
        details['estimate_error_percent'] = {'median': round(median(errors), 2), 'largest': round(max(errors), 2)}
    for record, route in zip(records, routes, strict=True):
        record.latency_ms, record.latency_iqr_ms, record.memory_mb = estimates[route], None, None
        if method == 'measure':
            samples = measured[route].samples_ms
            record.latency_ms, record.latency_iqr_ms = median(samples), interquartile_range(samples)
            record.memory_mb = record.params_m * 1e6 * PARAMETER_BYTES / 2**20 + measured[route].activations_mb
        record.provenance = {**(record.provenance or {}), 'latency': details}


def interquartile_range(samples: Sequence[float]) -> float:
    """Distance between the quartiles; 0 of a single sample."""
    if len(samples) < 2:
        return 0.0
    first, _, third = quantiles(samples, n=4, method='inclusive')
    return third - first


def _measure(bench: LatencyBench, routes: Sequence[Route], details: dict, path: Path, resume: bool) -> Measurements:
    """Measure with a progress bar, saving now and then."""
    known = _load(path, routes, details) if resume else {}
    done = sum(len(measurement.samples_ms) for measurement in known.values())
    total = len(routes) * bench.setting.repetitions
    saved_at = time.monotonic()
    with tqdm(desc='latency', total=total, initial=done, dynamic_ncols=True) as bar:

        def save(measured: Measurements) -> None:
            nonlocal saved_at
            bar.update()
            if time.monotonic() - saved_at >= SAVE_SECONDS:
                _save(path, measured, details)
                saved_at = time.monotonic()

        measured = bench.measure(routes, known, save)
    _save(path, measured, details)
    return measured


def _save(path: Path, measured: Measurements, details: dict) -> None:
    routes = {route.name: asdict(measurement) for route, measurement in measured.items() if measurement}
    content = {'setting': details, 'routes': routes}
    write_file(path, lambda partial: partial.write_text(json.dumps(content, indent=1) + '\n'))


def _load(path: Path, routes: Sequence[Route], details: dict) -> Measurements:
    """Measurements of the same setting, none otherwise."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    # JSON knows no tuples.
    if content.get('setting') != json.loads(json.dumps(details)):
        return {}
    known = content['routes']
    return {route: Measurement(**known[route.name]) for route in routes if route.name in known}
