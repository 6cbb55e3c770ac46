"""What a reader sees of records: lines, tables, files."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from mmsnnet.evaluation.reports.html_report import room_for_pictures, write_html
from mmsnnet.evaluation.reports.pictures import Pictures
from mmsnnet.evaluation.reports.plots import plot_pareto
from mmsnnet.files import write_file
from mmsnnet.stitching import Record, front_records, main_metric, write_records
from mmsnnet.stitching.records import COSTS


def write_report(records: Sequence[Record], out_dir: str | os.PathLike, metric: str | None = None) -> None:
    """Write ``stitches.json``, and ``pareto.png`` of ``metric`` (default: the main one), into ``out_dir``."""
    out_dir = Path(out_dir)
    write_records(records, out_dir / 'stitches.json')
    metric = metric or main_metric(records)
    if metric:
        plot_pareto(records, metric, out_dir / 'pareto.png')


def write_full_report(
    records: Sequence[Record],
    out_dir: str | os.PathLike,
    metric: str | None = None,
    trained_alone: Sequence[Record] = (),
    make_pictures: Callable[[Sequence[Record], float], Pictures] | None = None,
) -> list[Path]:
    """Write ``stitches.json`` and ``.csv``, ``pareto.png`` and ``.svg``, and ``report.html``; returns their paths.

    Args:
        make_pictures: makes pictures of the records' routes for the page, of at most so many MB, once all other files
            are written.
    """
    out_dir = Path(out_dir)
    paths = [write_records(records, out_dir / 'stitches.json'), write_csv(records, out_dir / 'stitches.csv')]
    metric = metric or main_metric(records)
    if metric:
        for name in ('pareto.png', 'pareto.svg'):
            plot_pareto(records, metric, out_dir / name, trained_alone)
        pictures = None
        if make_pictures:
            pictures = make_pictures(records, room_for_pictures(records, metric, trained_alone))
        write_html(records, metric, out_dir / 'report.html', trained_alone, pictures)
        paths += [out_dir / name for name in ('pareto.png', 'pareto.svg', 'report.html')]
    return paths


def write_csv(records: Sequence[Record], path: str | os.PathLike) -> Path:
    """Write one line a record: id, name, kind, costs, metrics, and ``trained`` where it is known of any."""
    costs = [cost for cost in COSTS if any(getattr(record, cost) is not None for record in records)]
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    trained = ['trained'] if any(record.trained is not None for record in records) else []

    def write(partial: Path) -> None:
        with partial.open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow(['id', 'name', 'kind', *costs, *metrics, *trained])
            for record in records:
                values = [getattr(record, cost) for cost in costs] + [record.metrics.get(name) for name in metrics]
                writer.writerow([record.id, record.name, record.kind, *values, *(record.trained for _ in trained)])

    return write_file(Path(path), write)


def format_record(record: Record) -> str:
    """One line: id, name, kind, cost, metrics; whether it is a route that has not been trained."""
    latency = '' if record.latency_ms is None else f'{record.latency_ms:9.4g} ms  '
    metrics = '  '.join(f'{name} {value:.4g}' for name, value in record.metrics.items())
    return (
        f'route {record.id:3d}  {record.name:24s} {record.kind:6s} '
        f'{record.gflops:9.4g} GFLOPs  {record.params_m:8.4g} M params  {latency}{metrics}'
        f'{"  (not trained)" if record.trained is False else ""}'
    ).rstrip()


def format_table(records: Sequence[Record], metric: str | None = None) -> str:
    """All records by rising cost, those on the front of ``metric`` marked with a star."""
    front = {record.id for record in front_records(records, metric)} if metric else set()
    lines = [
        f'{"*" if record.id in front else " "} {format_record(record)}'
        for record in sorted(records, key=lambda record: (record.gflops, record.id))
    ]
    if metric:
        lines.append(f'* {len(front)} of {len(records)} routes are on the Pareto front of GFLOPs and {metric}')
    return '\n'.join(lines)
