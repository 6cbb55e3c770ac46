"""Ways of stitching against the mixing line: tables of means and deviations over seeds, and a plot."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from tools.benchmarks.pages import join_page, markdown_table
from tools.experiments.lines import Point
from tools.experiments.reports import spread


def format_page(results: dict) -> str:
    """All tables."""
    settings, anchors, ways = results['settings'], results['anchors'], results['ways']
    metric, reference = settings['metric'], settings['reference']
    sections = [
        f'# Routes worth choosing: {len(ways)} ways of stitching, {len(settings["seeds"])} seeds\n',
        f'{metric} of {settings["images"]} drawn scenes, mean ± standard deviation over seeds. All train on batches of '
        f'{settings["batch_size"]} images. Seconds are of training alone, {settings["at_once"]} trainings at once, on '
        'the machine named below: the median iteration, times their number.\n',
        markdown_table(
            ['anchor alone', 'GFLOPs', metric, 'above the line', 'iterations', 'seconds'],
            (_anchor_row(name, runs) for name, runs in anchors.items()),
        ),
        'The line joins the small and the large anchor alone: what anyone gets by running the small one on some images '
        'and the large one on the others. Of each way, the table shows its ends, the routes of both anchors, against '
        'these anchors alone; then of the routes with a switch that it trains, how many are below the small anchor '
        'alone, and how many on or above the line. The gain is the mean, over all costs, of what mixing its routes '
        'reaches, minus the line. GFLOPs are those of the mean route trained, forward, one image.\n',
        markdown_table(
            [
                'way',
                'routes',
                'small end',
                'large end',
                'below small',
                'on or above the line',
                'gain',
                f'gain over {reference}',
                'iterations',
                'GFLOPs trained',
                'seconds',
            ],
            (_way_row(way, runs) for way, runs in ways.items()),
        ),
        'Gain, seed by seed:\n',
        markdown_table(
            ['way', *(f'seed {seed}' for seed in settings['seeds'])],
            ([way, *(f'{seed["gain"]:+.2f}' for seed in runs['seeds'])] for way, runs in ways.items()),
        ),
    ]
    return join_page(sections, results['provenance'])


def _anchor_row(name: str, runs: dict) -> list[str]:
    points = runs['points']
    scores = [spread(point.score for point in points), spread(runs['above'])]
    return [name, f'{points[0].gflops:.3f}', *scores, str(runs['iterations']), spread(runs['seconds'], 0)]


def _way_row(way: str, runs: dict) -> list[str]:
    seeds = runs['seeds']
    return [
        way,
        str(len(seeds[0]['routes']) - 2),
        *(spread(seed['ends'][end] for seed in seeds) for end in (0, 1)),
        *(spread((100 * seed[key] for seed in seeds), 0) + ' %' for key in ('below_small', 'on_or_above')),
        spread(seed['gain'] for seed in seeds),
        spread(seed['against_reference'] for seed in seeds) if 'against_reference' in seeds[0] else '',
        str(runs['iterations']),
        spread(runs['gflops'], 3),
        spread(runs['seconds'], 0),
    ]


def plot_ways(results: dict, figure: Figure) -> None:
    """A panel for each way: routes as points, what mixing them reaches, and the line; a colour for each seed."""
    ways, anchors = results['ways'], results['anchors']
    columns = min(len(ways), 4)
    rows = -(-len(ways) // columns)
    figure.set_size_inches(1 + 3.4 * columns, 1 + 3 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for (way, runs), axes in zip(ways.items(), panels, strict=False):
        for index, seed in enumerate(runs['seeds']):
            line = [anchors[name]['points'][index] for name in ('small', 'large')]
            # The legend names what the first seed shows; the others differ in colour.
            colour, hidden = f'C{index}', '_' if index else ''
            axes.plot(
                *_columns(line), '--', color=colour, linewidth=1, label=f'{hidden}mixing the small and the large one'
            )
            alone = [runs['points'][index] for runs in anchors.values()]
            axes.plot(*_columns(alone), '*', color=colour, markersize=9, label=f'{hidden}anchors alone')
            axes.plot(*_columns(list(seed['routes'].values())), '.', color=colour, alpha=0.6, label=f'{hidden}routes')
            axes.plot(*_columns(seed['hull']), color=colour, linewidth=1.2, label=f'{hidden}mixing routes')
        axes.set_title(way, fontsize='medium')
        axes.grid(alpha=0.3)
    for axes in list(panels):
        axes.set_visible(False)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc='outside upper center', ncols=2 if columns < 3 else 4
    )
    figure.supxlabel('GFLOPs')
    figure.supylabel(results['settings']['metric'])


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Costs, and scores."""
    return [point.gflops for point in points], [point.score for point in points]
