"""One HTML page of a benchmark, which opens offline: an interactive plot, the front as a table, results by class."""

import base64
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from mmsnnet.evaluation.reports.pictures import QUALITIES, Pictures
from mmsnnet.evaluation.reports.plots import COST_LABELS, KIND_COLOURS, MIXING_LINE, by_cost, metric_label, opacity
from mmsnnet.files import finite_or_none, write_file
from mmsnnet.stitching import Record, direction, front_records

# Of a page with pictures, which take what the rest of it leaves.
MAX_MB = 5
PLOT_ID = 'pareto'
ALONE = 'anchor trained alone'


def write_html(
    records: Sequence[Record],
    metric: str,
    path: str | os.PathLike,
    trained_alone: Sequence[Record] = (),
    pictures: Pictures | None = None,
) -> None:
    """Write the page.

    Args:
        records: of all evaluated routes.
        metric: to show over the costs.
        trained_alone: records of single anchors, shown as stars.
        pictures: of what every route predicts; :func:`room_for_pictures` says how many MB they may take.
    """
    page = _page(records, metric, trained_alone, pictures)
    write_file(Path(path), lambda partial: partial.write_text(page, encoding='utf-8'))


def room_for_pictures(records: Sequence[Record], metric: str, trained_alone: Sequence[Record] = ()) -> float:
    """The MB that a page of at most ``MAX_MB`` leaves for pictures, 0 or more; arguments as of :func:`write_html`."""
    page = _page(records, metric, trained_alone, Pictures([], [], {}, QUALITIES[0]))
    return max(MAX_MB - len(page.encode()) / 1e6, 0)


def _page(records: Sequence[Record], metric: str, trained_alone: Sequence[Record], pictures: Pictures | None) -> str:
    costs = [cost for cost in COST_LABELS if all(getattr(record, cost) is not None for record in records)]
    fronts = {cost: [record.id for record in front_records(records, metric, cost)] for cost in costs}
    return _template().render(
        metric=metric,
        metric_label=metric_label(metric),
        is_error=direction(metric) < 0,
        num_untrained=sum(record.trained is False for record in records),
        records=finite_or_none([asdict(record) for record in records]),
        costs={cost: COST_LABELS[cost] for cost in costs},
        fronts=fronts,
        points=finite_or_none({cost: _points(records, metric, cost, trained_alone) for cost in costs}),
        figure=_figure(records, metric, costs[0], trained_alone),
        plot_id=PLOT_ID,
        plotly=_packed_plotly(),
        pictures=pictures and _picture_data(pictures),
        provenance=_flat(records[0].provenance or {}),
    )


def _picture_data(pictures: Pictures) -> dict[str, Any]:
    """Pictures in types that JSON has; what is shown as ``[place of the image, text]``."""
    return {name: value for name, value in asdict(pictures).items() if name != 'quality'}


@cache
def _packed_plotly() -> str:
    """The plotting library, gzip in base64: 2 MB instead of 5."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader('mmsnnet.evaluation.reports'), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    # Classes and metrics keep their order.
    environment.policies['json.dumps_kwargs'] = {'sort_keys': False}
    return environment.get_template('report.html')


def _traces(
    records: Sequence[Record], metric: str, cost: str, trained_alone: Sequence[Record]
) -> dict[str, Sequence[Record]]:
    """The records of each trace, by its name, in the order of drawing."""
    kinds = {kind: [record for record in records if record.kind == kind] for kind in KIND_COLOURS}
    traces = {'front': front_records(records, metric, cost)} | {kind: group for kind, group in kinds.items() if group}
    if len(trained_alone) > 1:
        traces[MIXING_LINE] = by_cost(trained_alone, cost)
    return traces | ({ALONE: trained_alone} if trained_alone else {})


def _points(
    records: Sequence[Record], metric: str, cost: str, trained_alone: Sequence[Record]
) -> dict[str, list[list[float | None]]]:
    """Coordinates of all traces over a cost, to which the page can switch."""
    traces = _traces(records, metric, cost, trained_alone).values()
    return {
        'x': [[getattr(record, cost) for record in group] for group in traces],
        'y': [[record.metrics.get(metric) for record in group] for group in traces],
    }


def _figure(records: Sequence[Record], metric: str, cost: str, trained_alone: Sequence[Record]) -> dict[str, Any]:
    """The plot over a cost, its ``data`` and ``layout`` as plotly.js takes them."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, group in _traces(records, metric, cost, trained_alone).items():
        figure.add_trace(_trace(go, name, group, metric, cost))
    figure.update_layout(
        template='plotly_white',
        margin={'l': 60, 'r': 20, 't': 20, 'b': 60},
        height=480,
        hovermode='closest',
        legend={'orientation': 'h', 'y': -0.2},
        xaxis={'title': {'text': COST_LABELS[cost]}, 'rangemode': 'tozero'},
        yaxis={'title': {'text': metric_label(metric)}},
    )
    return json.loads(figure.to_json())


def _trace(go: Any, name: str, group: Sequence[Record], metric: str, cost: str) -> Any:
    x, y = [getattr(record, cost) for record in group], [record.metrics.get(metric) for record in group]
    lines = {'front': {'color': '#999999'}, MIXING_LINE: {'color': '#000000', 'width': 1, 'dash': 'dash'}}
    if name in lines:
        return go.Scatter(x=x, y=y, name=name, mode='lines', line=lines[name], hoverinfo='skip')
    opacities = [opacity(record) for record in group]
    marker = {'color': KIND_COLOURS.get(name), 'size': 14 if name == 'anchor' else 8, 'opacity': opacities}
    if name == ALONE:
        marker = {'color': '#F0E442', 'size': 18, 'symbol': 'star', 'line': {'color': 'black', 'width': 1}}
    return go.Scatter(
        x=x,
        y=y,
        name=name if name == ALONE else f'{name} ({len(group)})',
        mode='markers',
        marker=marker,
        customdata=[[record.id, record.name] for record in group],
        text=[_hover(record, metric) for record in group],
        hovertemplate='%{text}<extra></extra>',
    )


def _hover(record: Record, metric: str) -> str:
    lines = [f'<b>{record.name}</b> (id {record.id}, {record.kind})']
    lines += [
        f'{label} {getattr(record, cost):.4g}'
        for cost, label in COST_LABELS.items()
        if getattr(record, cost) is not None
    ]
    lines.append(f'{metric} {record.metrics.get(metric, float("nan")):.4g}')
    lines += ['not trained'] if record.trained is False else []
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
