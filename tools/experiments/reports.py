"""What evaluations of stitched models come to: numbers of each, tables of means and deviations over seeds, plots."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmsnnet.stitching import Record, front_records, hypervolume
from tools.benchmarks.pages import join_page, markdown_table

# Where fronts are read off: shares of the way from the small anchor's cost to the large one's.
BUDGETS = (0.2, 0.4, 0.6, 0.8)
BEFORE, AFTER = 'before the first iteration', 'trained'
WHOLE = {
    'hypervolume': 'hypervolume',
    'dominated': 'dominated',
    'small': 'small anchor',
    'large': 'large anchor',
}


def summary(records: Sequence[Record], metric: str) -> dict:
    """One evaluation of all routes, over all budgets from the small to the large anchor's; anchors come first."""
    small, large = records[:2]
    scores = {record.name: record.metrics[metric] for record in records}
    front = [(record.gflops, record.metrics[metric]) for record in front_records(records, metric)]
    budgets = [small.gflops + share * (large.gflops - small.gflops) for share in BUDGETS]
    kinds: dict[str, list[float]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record.metrics[metric])
    return {
        'hypervolume': hypervolume(
            [record.gflops for record in records], [*scores.values()], max_cost=large.gflops, min_cost=small.gflops
        ),
        'dominated': len(records) - len(front),
        'small': small.metrics[metric],
        'large': large.metrics[metric],
        'front': front,
        'budgets': [(budget, best_within(front, budget)) for budget in budgets],
        'kinds': {kind: mean(of_kind) for kind, of_kind in kinds.items()},
        'scores': scores,
    }


def best_within(front: Sequence[tuple[float, float]], budget_gflops: float) -> float:
    """The best score of a front of (GFLOPs, score) within a budget."""
    return max(score for gflops, score in front if gflops <= budget_gflops)


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    values = list(values)
    deviation = f' ± {stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{mean(values):.{digits}f}{deviation}'


def format_page(results: dict) -> str:
    """All tables. The first way is the one that others are compared with."""
    settings, anchors, ways = results['settings'], results['anchors'], results['ways']
    metric = settings['metric']
    reference, *others = ways
    sections = [
        f'# Ways of stitching: {settings["iterations"]} iterations of {settings["batch_size"]} images, '
        f'{len(settings["seeds"])} seeds\n',
        f'{metric} of the validation images, mean ± standard deviation over seeds. Each seed trains its own anchors; '
        'all ways start from them. Hypervolume is the mean, over budgets from the small to the large anchor, of what '
        'the best route within the budget scores. GFLOPs trained are those of the mean route drawn, forward, one '
        f'image. Minutes are of training alone, {settings["at_once"]} trainings at once on the machine named below.\n',
        markdown_table(
            ['anchor alone', 'GFLOPs', metric, 'minutes'],
            (
                [name, f'{runs["gflops"]:.3g}', spread(runs['scores']), spread(runs['minutes'], 1)]
                for name, runs in anchors.items()
            ),
        ),
        markdown_table(
            ['way', 'routes', *WHOLE.values(), 'GFLOPs trained', 'minutes'],
            (
                [way, str(runs['routes'])]
                + [spread(seed[key] for seed in runs['seeds']) for key in WHOLE]
                + [spread(runs['trained_gflops'], 3), spread(runs['minutes'], 1)]
                for way, runs in ways.items()
            ),
        ),
        f'Hypervolume against {reference}, seed by seed:\n',
        markdown_table(
            ['way', *(f'seed {seed}' for seed in settings['seeds']), 'mean'],
            (_differences(way, ways[way], ways[reference]) for way in others),
        ),
        'The best route within a budget:\n',
        markdown_table(
            ['way', *(f'{budget:.3g} GFLOPs' for budget, _ in ways[reference]['seeds'][0]['budgets'])],
            ([way, *map(spread, _by_budget(runs['seeds']))] for way, runs in ways.items()),
        ),
        f'How far the start is from the end, seed {settings["seeds"][0]}, mean of all routes of a kind:\n',
        _starts_table(ways),
        f"{reference}'s stitching layers, same seed: the share of the variance of the features they enter that least "
        'squares explains, and the route that switches there and nowhere else:\n',
        _layers_table(ways[reference]),
    ]
    return join_page(sections, results['provenance'])


def _differences(way: str, runs: dict, reference: dict) -> list[str]:
    pairs = zip(runs['seeds'], reference['seeds'], strict=True)
    differences = [ours['hypervolume'] - theirs['hypervolume'] for ours, theirs in pairs]
    return [way, *(f'{difference:+.2f}' for difference in differences), spread(differences)]


def _by_budget(seeds: Sequence[dict]) -> Iterable[list[float]]:
    """For each budget, one best score of each seed."""
    return ([score for _, score in of_budget] for of_budget in zip(*(seed['budgets'] for seed in seeds), strict=True))


def _starts_table(ways: dict) -> str:
    """Means over all routes of a kind, first seed."""
    kinds = list(dict.fromkeys(kind for runs in ways.values() for kind in runs['seeds'][0]['kinds']))
    rows = []
    for way, runs in ways.items():
        if 'start' in runs:
            for when, evaluated in ((BEFORE, runs['start']), (AFTER, runs['seeds'][0])):
                means = (evaluated['kinds'].get(kind) for kind in kinds)
                rows.append([way, when, *('' if score is None else f'{score:.2f}' for score in means)])
    return markdown_table(['way', 'when', *kinds], rows)


def _layers_table(runs: dict) -> str:
    """Each stitching layer with the route that switches only there, first seed."""
    start, trained = runs['start']['scores'], runs['seeds'][0]['scores']
    return markdown_table(
        ['layer', 'explained', 'route', BEFORE, AFTER],
        (
            [layer, f'{share:.1%}', f'`{route}`', f'{start[route]:.2f}', f'{trained[route]:.2f}']
            for layer, (share, route) in runs['explained'].items()
        ),
    )


def plot_fronts(results: dict, figure: Figure) -> None:
    """A thin line for each seed and the mean of all seeds as a thick one, anchors alone as stars."""
    metric = results['settings']['metric']
    axes = figure.subplots()
    whole_cost = max(runs['gflops'] for runs in results['anchors'].values())
    for index, (way, runs) in enumerate(results['ways'].items()):
        fronts = [seed['front'] for seed in runs['seeds']]
        budgets = sorted({gflops for front in fronts for gflops, _ in front})
        # Not below the most expensive of the cheapest routes on a front: further down a seed has none.
        budgets = [budget for budget in budgets if budget >= max(front[0][0] for front in fronts)] + [whole_cost]
        best = [[best_within(front, budget) for budget in budgets] for front in fronts]
        style = {'where': 'post', 'color': f'C{index}'}
        for scores in best:
            axes.step(budgets, scores, linewidth=0.6, alpha=0.5, **style)
        axes.step(budgets, [mean(scores) for scores in zip(*best, strict=True)], label=way, **style)
    for index, runs in enumerate(results['anchors'].values()):
        gflops = [runs['gflops']] * len(runs['scores'])
        label = None if index else 'anchor trained alone'
        axes.plot(gflops, runs['scores'], '*', color='black', markersize=9, label=label)
    axes.set(xlabel='GFLOPs', ylabel=metric, title='Best route within a budget: each seed, and their mean')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside right upper')


def plot_curves(results: dict, figure: Figure) -> None:
    """Followed routes of the first seed over iterations, its anchors alone as dashes."""
    curves = {way: runs['curves'] for way, runs in results['ways'].items() if 'curves' in runs}
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for axes, (way, lines) in zip(panels, curves.items(), strict=True):
        for name, line in lines.items():
            axes.plot(*zip(*line, strict=True), '.-', label=name)
        # Anchors come first among what is followed, so that they share their colours.
        for index, runs in enumerate(results['anchors'].values()):
            axes.axhline(runs['scores'][0], color=f'C{index}', linestyle='--', linewidth=1)
        axes.set(xlabel='iteration', title=way)
        axes.grid(alpha=0.3)
        axes.legend(loc='lower right', fontsize='small')
    panels[0].set_ylabel(results['settings']['metric'])
    figure.suptitle(f'Seed {results["settings"]["seeds"][0]}, from the least-squares start on; dashed: anchors alone')


def save_plot(results: dict, plot: Callable[[dict, Figure], None], path: Path) -> None:
    figure = Figure(figsize=(10, 5), layout='constrained')
    FigureCanvasAgg(figure)
    plot(results, figure)
    figure.savefig(path, dpi=150)
