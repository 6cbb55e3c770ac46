"""One HTML page of a benchmark, which opens offline: an interactive plot, the front as a table, results by class."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmsnnet.evaluation.plots import COST_LABELS, KIND_COLOURS
from mmsnnet.stitching import Record, front_records
from mmsnnet.stitching.records import without_nan, write_file

PLOT_ID = 'pareto'


def write_html(
    records: Sequence[Record], metric: str, path: str | os.PathLike, trained_alone: Sequence[Record] = ()
) -> None:
    """Write the page.

    Args:
        records: of all evaluated routes.
        metric: to show over the costs.
        trained_alone: records of single anchors, shown as stars.
    """
    costs = [cost for cost in COST_LABELS if all(getattr(record, cost) is not None for record in records)]
    fronts = {cost: [record.id for record in front_records(records, metric, cost)] for cost in costs}
    page = _template().render(
        metric=metric,
        records=without_nan([asdict(record) for record in records]),
        costs={cost: COST_LABELS[cost] for cost in costs},
        fronts=fronts,
        plot=_plot_html(records, metric, costs, trained_alone),
        plot_id=PLOT_ID,
        provenance=_flat(records[0].provenance or {}),
        num_dominated=len(records) - len(fronts[costs[0]]),
    )
    write_file(Path(path), lambda partial: partial.write_text(page, encoding='utf-8'))


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader('mmsnnet.evaluation'), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # Classes and metrics in their own order.
    environment.policies['json.dumps_kwargs'] = {'sort_keys': False}
    return environment.get_template('report.html')


def _plot_html(records: Sequence[Record], metric: str, costs: Sequence[str], trained_alone: Sequence[Record]) -> str:
    """The plot as an HTML element, plotting library included."""
    import plotly.graph_objects as go

    groups = {kind: [record for record in records if record.kind == kind] for kind in KIND_COLOURS}
    groups = {kind: group for kind, group in groups.items() if group}
    front_of = {cost: front_records(records, metric, cost) for cost in costs}
    figure = go.Figure()
    first = costs[0]
    line = {'mode': 'lines', 'line_color': '#999999', 'hoverinfo': 'skip'}
    figure.add_trace(_trace(go, front_of[first], metric, first, 'front', **line))
    for kind, group in groups.items():
        marker = {'color': KIND_COLOURS[kind], 'size': 14 if kind == 'anchor' else 8}
        figure.add_trace(_trace(go, group, metric, first, f'{kind} ({len(group)})', mode='markers', marker=marker))
    if trained_alone:
        marker = {'color': '#F0E442', 'size': 18, 'symbol': 'star', 'line': {'color': 'black', 'width': 1}}
        trace = _trace(go, trained_alone, metric, first, 'anchor trained alone', mode='markers', marker=marker)
        figure.add_trace(trace)
    drawn = [*groups.values(), *([trained_alone] if trained_alone else [])]
    buttons = [
        {
            'label': COST_LABELS[cost],
            'method': 'update',
            'args': [
                {
                    'x': [[getattr(record, cost) for record in group] for group in (front_of[cost], *drawn)],
                    'y': [[record.metrics.get(metric) for record in group] for group in (front_of[cost], *drawn)],
                },
                {'xaxis.title.text': COST_LABELS[cost]},
            ],
        }
        for cost in costs
    ]
    menu = {'type': 'buttons', 'direction': 'right', 'x': 0, 'xanchor': 'left', 'y': 1.14, 'buttons': buttons}
    figure.update_layout(
        template='plotly_white',
        margin={'l': 60, 'r': 20, 't': 60, 'b': 60},
        height=520,
        hovermode='closest',
        legend={'orientation': 'h', 'y': -0.2},
        xaxis={'title': {'text': COST_LABELS[first]}, 'rangemode': 'tozero'},
        yaxis={'title': {'text': metric}},
        updatemenus=[menu],
    )
    return figure.to_html(
        full_html=False, include_plotlyjs=True, div_id=PLOT_ID, config={'responsive': True, 'displayModeBar': False}
    )


def _trace(go: Any, group: Sequence[Record], metric: str, cost: str, name: str, **style: Any) -> Any:
    return go.Scatter(
        x=[getattr(record, cost) for record in group],
        y=[record.metrics.get(metric) for record in group],
        name=name,
        customdata=[[record.id, record.name] for record in group],
        text=[_hover(record, metric) for record in group],
        hovertemplate='%{text}<extra></extra>' if style.get('hoverinfo') != 'skip' else None,
        **style,
    )


def _hover(record: Record, metric: str) -> str:
    lines = [f'<b>{record.name}</b> (id {record.id}, {record.kind})']
    lines += [
        f'{label} {getattr(record, cost):.4g}'
        for cost, label in COST_LABELS.items()
        if getattr(record, cost) is not None
    ]
    lines.append(f'{metric} {record.metrics.get(metric, float("nan")):.4g}')
    return '<br>'.join(lines)


def _flat(provenance: dict, prefix: str = '') -> dict[str, str]:
    """Nested entries as ``a.b``."""
    flat: dict[str, str] = {}
    for key, value in provenance.items():
        if isinstance(value, dict):
            flat |= _flat(value, f'{prefix}{key}.')
        else:
            flat[prefix + key] = str(value)
    return flat
