"""What a reader sees of records: lines, tables, a plot."""

import os
from collections.abc import Sequence
from pathlib import Path

from mmsnnet.stitching import Record, front_records, main_metric, write_records

# One colour per kind, of a palette that colour-blind readers can tell apart (Okabe and Ito).
KIND_COLOURS = {'anchor': '#000000', 'SL': '#0072B2', 'LS': '#E69F00', 'LSL': '#009E73', 'SLS': '#CC79A7'}


def write_report(records: Sequence[Record], out_dir: str | os.PathLike, metric: str | None = None) -> None:
    """Write ``stitches.json``, and ``pareto.png`` of ``metric`` (default: the first), into ``out_dir``."""
    out_dir = Path(out_dir)
    write_records(records, out_dir / 'stitches.json')
    metric = metric or main_metric(records)
    if metric:
        plot_pareto(records, metric, out_dir / 'pareto.png')


def format_record(record: Record) -> str:
    """One line: id, name, kind, cost, metrics."""
    metrics = '  '.join(f'{name} {value:.4g}' for name, value in record.metrics.items())
    return (
        f'stitch {record.id:3d}  {record.name:24s} {record.kind:6s} '
        f'{record.gflops:9.4g} GFLOPs  {record.params_m:8.4g} M params  {metrics}'
    ).rstrip()


def format_table(records: Sequence[Record], metric: str | None = None) -> str:
    """All records by rising cost, those on the front of ``metric`` marked with a star."""
    front = {record.id for record in front_records(records, metric)} if metric else set()
    lines = [
        f'{"*" if record.id in front else " "} {format_record(record)}'
        for record in sorted(records, key=lambda record: (record.gflops, record.id))
    ]
    if metric:
        lines.append(f'* {len(front)} of {len(records)} stitches are on the Pareto front of GFLOPs and {metric}')
    return '\n'.join(lines)


def plot_pareto(
    records: Sequence[Record],
    metric: str,
    path: str | os.PathLike,
    trained_alone: Sequence[Record] = (),
) -> None:
    """Plot ``metric`` over GFLOPs, the front as a line, kinds by colour, individually trained anchors as stars."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
    front = front_records(records, metric)
    axes.plot([r.gflops for r in front], [r.metrics[metric] for r in front], color='#999999', zorder=1, label='front')
    for kind, colour in KIND_COLOURS.items():
        of_kind = [record for record in records if record.kind == kind]
        if of_kind:
            x, y = [r.gflops for r in of_kind], [r.metrics[metric] for r in of_kind]
            axes.scatter(x, y, s=90 if kind == 'anchor' else 22, color=colour, zorder=2, label=f'{kind} ({len(x)})')
    if trained_alone:
        x, y = [r.gflops for r in trained_alone], [r.metrics[metric] for r in trained_alone]
        style = {'marker': '*', 's': 220, 'color': '#F0E442', 'edgecolors': 'black'}
        axes.scatter(x, y, zorder=3, label='anchor trained alone', **style)
    axes.set(xlabel='GFLOPs', ylabel=metric, title=f'{len(records)} stitches of one model, {len(front)} on the front')
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
