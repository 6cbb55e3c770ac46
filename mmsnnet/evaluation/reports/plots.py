"""The Pareto plot as an image."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsnnet.files import write_file
from mmsnnet.stitching import Record, direction, front_records

# One colour per kind, of a palette that colour-blind readers can tell apart (Okabe and Ito).
KIND_COLOURS = {'anchor': '#000000', 'SL': '#0072B2', 'LS': '#E69F00', 'LSL': '#009E73', 'SLS': '#CC79A7'}
COST_LABELS = {
    'gflops': 'GFLOPs',
    'latency_ms': 'latency (ms)',
    'params_m': 'parameters (M)',
    'memory_mb': 'memory (MiB)',
}
MIXING_LINE = 'line between them'
# Of points of routes that have not been trained.
PALE = 0.25


def plot_pareto(
    records: Sequence[Record],
    metric: str,
    path: str | os.PathLike,
    trained_alone: Sequence[Record] = (),
    cost: str = 'gflops',
) -> None:
    """Plot ``metric`` over a cost, the front as a line, kinds by colour, individually trained anchors as stars.

    A dashed line joins the stars: anyone gets it by using now one of these models, now the other. Routes that have not
    been trained are pale.

    Args:
        path: .png, .svg or another format of matplotlib's.
    """
    figure = draw_pareto(records, metric, trained_alone, cost)
    path = Path(path)
    write_file(path, lambda partial: figure.savefig(partial, dpi=150, format=path.suffix.lstrip('.') or 'png'))


def draw_pareto(
    records: Sequence[Record], metric: str, trained_alone: Sequence[Record] = (), cost: str = 'gflops'
) -> Any:
    """The plot as matplotlib's figure. In an SVG image, the point of route 17 has the id ``route-17``."""
    # Without pyplot, which keeps figures alive and is not for threads.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout='constrained')
    axes = figure.add_subplot()
    front = front_records(records, metric, cost)
    axes.plot(*_points(front, metric, cost), color='#999999', zorder=1, label='front')
    for kind, colour in KIND_COLOURS.items():
        of_kind = [record for record in records if record.kind == kind]
        if of_kind:
            size = 90 if kind == 'anchor' else 22
            for record in of_kind:
                style = {'color': colour, 'alpha': opacity(record), 'gid': f'route-{record.id}'}
                axes.scatter(*_points([record], metric, cost), s=size, zorder=2, **style)
            # Its point in the legend must not be pale.
            axes.scatter([], [], s=size, color=colour, label=f'{kind} ({len(of_kind)})')
    untrained = sum(record.trained is False for record in records)
    if untrained:
        axes.scatter([], [], s=22, color='#000000', alpha=PALE, label=f'pale: not trained ({untrained})')
    if trained_alone:
        style = {'marker': '*', 's': 220, 'color': '#F0E442', 'edgecolors': 'black'}
        axes.scatter(*_points(trained_alone, metric, cost), zorder=3, label='anchor trained alone', **style)
    if len(trained_alone) > 1:
        line = by_cost(trained_alone, cost)
        axes.plot(
            *_points(line, metric, cost), color='#000000', linestyle='--', linewidth=1, zorder=1, label=MIXING_LINE
        )
    title = f'{len(records)} routes of one model, {len(front)} on the front'
    axes.set(xlabel=COST_LABELS[cost], ylabel=metric_label(metric), title=title)
    axes.grid(alpha=0.3)
    # Beside the plot: inside, it would hide points.
    figure.legend(loc='outside right upper')
    return figure


def by_cost(records: Sequence[Record], cost: str) -> list[Record]:
    """Records whose cost was measured, from the cheapest to the most expensive."""
    measured = [record for record in records if getattr(record, cost) is not None]
    return sorted(measured, key=lambda record: getattr(record, cost))


def opacity(record: Record) -> float:
    """Of a record's point."""
    return PALE if record.trained is False else 1.0


def metric_label(metric: str) -> str:
    """What to write beside an axis of a metric."""
    return metric if direction(metric) > 0 else f'{metric} (lower is better)'


def _points(records: Sequence[Record], metric: str, cost: str) -> tuple[list[float], list[float]]:
    return [getattr(record, cost) for record in records], [record.metrics[metric] for record in records]
