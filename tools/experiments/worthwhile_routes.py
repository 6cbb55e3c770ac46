"""Which way of stitching two finished models gives routes in between that are worth choosing?

$ python -m tools.experiments.worthwhile_routes
$ python -m tools.experiments.worthwhile_routes --seeds 0 --ways paper 'adapters 32, 4 routes'

Anyone gets the straight line between two models by running one on some images and the other on the rest: a route is
worth choosing if it lies above that line. For each seed: a small, a middle and a large anchor alone on drawn scenes,
then each way of stitching the small and the large one, all ways for equally many batches. Both anchors train on for as
many batches, too: what that gains is no merit of stitching. Of each way, both anchors' routes and those with a switch
that it trains are evaluated. Writes worthwhile_routes.json, worthwhile_routes.md and worthwhile_routes.png to the
folder --report. A later call repeats nothing that is finished. Each training's output is in its log.txt.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from mmengine.config import Config

from mmsnnet.cli import command
from mmsnnet.errors import UserError
from mmsnnet.stitching import Record, main_metric, read_records
from tools.benchmarks.pages import write_results
from tools.experiments.jobs import Job, run_all
from tools.experiments.line_reports import format_page, plot_ways
from tools.experiments.lines import Point, height, mean_difference, share_below, share_on_or_above, upper_hull
from tools.experiments.reports import save_plot

CONFIGS = Path('configs', 'scenes')
SCENES = 'setr-naive_b8-800_scenes-96x96.py'
SIZES = {'small': 's6', 'middle': 'm6', 'large': 'l6'}
ENDS = ('small', 'large')
ANCHORS = {name: CONFIGS / f'anchor-{size}_{SCENES}' for name, size in SIZES.items()}
STITCHED = CONFIGS / f'stitched-s6-l6_{SCENES}'
# Routes that end in the small anchor or return to the large one, one of each cost but the highest.
FOUR = ('l[0:1]-s[1:6]', 'l[0:2]-s[2:6]', 'l[0:2]-s[2:5]-l[5:6]', 'l[0:3]-s[3:5]-l[5:6]')
EIGHT = (*FOUR, 'l[0:3]-s[3:6]', 'l[0:4]-s[4:6]', 'l[0:1]-s[1:5]-l[5:6]', 'l[0:4]-s[4:5]-l[5:6]')
SIXTEEN = (
    *EIGHT,
    'l[0:5]-s[5:6]',
    'l[0:1]-s[1:2]-l[2:6]',
    'l[0:1]-s[1:3]-l[3:6]',
    'l[0:1]-s[1:4]-l[4:6]',
    'l[0:2]-s[2:3]-l[3:6]',
    'l[0:2]-s[2:4]-l[4:6]',
    'l[0:3]-s[3:4]-l[4:6]',
    's[0:3]-l[3:6]',
)
OWN_EXITS = {'model.backbone.exits': 'own'}


def rate(lr: float) -> dict:
    return {'optim_wrapper.optimizer.lr': lr}


def adapters(rank: int) -> dict:
    """Low-rank updates want a higher rate than all weights do."""
    return {**OWN_EXITS, 'model.backbone.exact': 'adapters', 'model.backbone.adapter_rank': rank, **rate(5e-3)}


def copies() -> dict:
    return {**OWN_EXITS, 'model.backbone.exact': 'copies', **rate(2e-3)}


def focus(routes: Sequence[str] | dict) -> dict:
    return {'custom_hooks.0.focus': dict(routes) if isinstance(routes, dict) else list(routes)}


# Ways of stitching: what their configs change of SN-Netv2's. Heads follow the backbone.
WAYS: dict[str, dict] = {
    'paper': {},
    'paper, 4 routes': focus(FOUR),
    'paper, 4 routes, rate 2e-3': {**focus(FOUR), **rate(2e-3)},
    'own exits': OWN_EXITS,
    'own exits, 4 routes': {**OWN_EXITS, **focus(FOUR)},
    'adapters 32': adapters(32),
    'adapters 32, 16 routes': {**adapters(32), **focus(SIXTEEN)},
    'adapters 32, 8 routes': {**adapters(32), **focus(EIGHT)},
    'adapters 32, 4 routes': {**adapters(32), **focus(FOUR)},
    'adapters 32, 4 routes by spread': {**adapters(32), **focus({'routes': 4, 'by': 'spread'})},
    'adapters 32, 4 routes by loss': {**adapters(32), **focus({'routes': 4, 'by': 'loss'})},
    'adapters 32, 4 routes by halving': {**adapters(32), **focus({'routes': 4, 'by': 'halving'})},
    'adapters 8, 4 routes': {**adapters(8), **focus(FOUR)},
    'copies, 4 routes': {**copies(), **focus(FOUR)},
    'separate adapters 32, 4 routes': {**adapters(32), **focus(FOUR), 'model.backbone.own_tunings': list(FOUR)},
}
# What stands beside the line between the small and the large anchor: training a size in between alone, and training on.
BARS = ('middle', 'small, trained on', 'large, trained on')
# The way that others are compared with.
REFERENCE = 'paper'
MEAN_GFLOPS = 'mean_route_gflops'
# Of anchors that train on: that of the paper's way.
LONGER_RATE = 5e-4


def anchor_job(args: argparse.Namespace, seed: int, name: str) -> Job:
    cfg = Config.fromfile(ANCHORS[name])
    enter_run(cfg, seed, args.anchor_iterations)
    return Job(args.out / f'{seed}' / f'{name}-{cfg.train_cfg.max_iters}', cfg)


def longer_job(args: argparse.Namespace, seed: int, name: str) -> Job:
    """An anchor of a seed that trains on alone for as long as the ways do. What that gains is no merit of stitching."""
    cfg = Config.fromfile(ANCHORS[name])
    cfg.merge_from_dict({'load_from': str(anchor_job(args, seed, name).checkpoint), **rate(LONGER_RATE)})
    enter_run(cfg, seed, args.iterations)
    return Job(args.out / f'{seed}' / f'{name}-longer-{cfg.train_cfg.max_iters}', cfg)


def bar_job(args: argparse.Namespace, seed: int, bar: str) -> Job:
    name, _, is_longer = bar.partition(', ')
    return (longer_job if is_longer else anchor_job)(args, seed, name)


def stitched_job(args: argparse.Namespace, seed: int, way: str) -> Job:
    """One way of stitching a seed's anchors."""
    cfg = Config.fromfile(STITCHED)
    cfg.merge_from_dict(WAYS[way])
    anchors = [anchor_job(args, seed, name) for name in ENDS]
    start_from(cfg, anchors)
    enter_run(cfg, seed, args.iterations)
    # What the mean trained route costs goes to the log.
    of_routes = {'data_src': 'route_gflops', 'log_name': MEAN_GFLOPS, 'method_name': 'mean', 'window_size': 'global'}
    cfg.log_processor.custom_cfg = [of_routes]
    name = way.replace(', ', '_').replace(' ', '-')
    folder = args.out / f'{seed}' / f'{name}-{cfg.train_cfg.max_iters}'
    return Job(folder, cfg, is_focused='focus' in cfg.custom_hooks[0])


def enter_run(cfg: Config, seed: int, iterations: int | None) -> None:
    """Set the seed, and for how many iterations to train; None leaves the config's own."""
    iterations = iterations or cfg.train_cfg.max_iters
    cfg.merge_from_dict(
        {
            'randomness': {'seed': seed},
            # Validation would count as training: tests come afterwards.
            'train_cfg': {'max_iters': iterations, 'val_begin': iterations + 1},
            'default_hooks.checkpoint.interval': iterations,
            'param_scheduler.1.end': iterations,
        }
    )


def start_from(cfg: Config, anchors: Sequence[Job]) -> None:
    """Let a stitched model start from anchors and their heads; with a head for each exit where exits are own."""
    model = cfg.model
    checkpoints = [str(job.checkpoint) for job in anchors]
    for anchor, checkpoint in zip(model.backbone.anchors, checkpoints, strict=True):
        anchor.init_cfg.checkpoint = checkpoint
    model.decode_head.init_cfg.checkpoint = checkpoints[-1]
    if model.backbone.get('exits') == 'own':
        heads = [
            {**model.decode_head, 'in_channels': anchor.embed_dim, 'init_cfg': {**model.decode_head.init_cfg, **at}}
            for anchor, at in zip(model.backbone.anchors, ({'checkpoint': path} for path in checkpoints), strict=True)
        ]
        shared = {'exact': bool(model.backbone.get('exact')), 'own_tunings': model.backbone.get('own_tunings', [])}
        model.decode_head = {'type': 'mmsnnet.PerExit', 'heads': heads, **shared}


def logged(job: Job, name: str) -> list[float]:
    """What a training has logged under a name."""
    paths = sorted(job.folder.glob('*/vis_data/scalars.json'))
    lines = (json.loads(line) for path in paths for line in path.read_text().splitlines())
    found = [line[name] for line in lines if name in line]
    if not found:
        raise UserError(f'no {name} in {job.folder}/*/vis_data: delete that folder, to train its model anew')
    return found


def seconds(job: Job) -> float:
    """Of a training that nothing interrupts: its median iteration, times their number."""
    return median(logged(job, 'time')) * job.config.train_cfg.max_iters


def point(record: Record, metric: str) -> Point:
    return Point(record.gflops, record.metrics[metric])


def compare(records: Sequence[Record], line: Sequence[Point], metric: str) -> dict:
    """A way's routes against the line between the anchors alone. Routes of anchors come first."""
    ends = [point(record, metric) for record in records[:2]]
    trained = [point(record, metric) for record in records[2:]]
    hull = upper_hull([*ends, *trained])
    return {
        'ends': [end.score - alone.score for end, alone in zip(ends, line, strict=True)],
        'below_small': share_below(trained, line[0].score),
        'on_or_above': share_on_or_above(trained, line),
        'gain': mean_difference(hull, line),
        'routes': {record.name: point(record, metric) for record in records},
        'hull': hull,
    }


def way_results(args: argparse.Namespace, way: str, lines: Sequence[Sequence[Point]], metric: str) -> dict:
    """One way of stitching, from several seeds."""
    jobs = [stitched_job(args, seed, way) for seed in args.seeds]
    return {
        'iterations': jobs[0].config.train_cfg.max_iters,
        # Of the mean route that was trained.
        'gflops': [logged(job, MEAN_GFLOPS)[-1] for job in jobs],
        'seconds': [seconds(job) for job in jobs],
        'seeds': [compare(read_records(job.records), line, metric) for job, line in zip(jobs, lines, strict=True)],
    }


def anchor_results(jobs: Sequence[Job]) -> dict:
    """One anchor alone, from several seeds."""
    records = [read_records(job.records)[0] for job in jobs]
    metric = main_metric(records)
    return {
        'iterations': jobs[0].config.train_cfg.max_iters,
        'points': [point(record, metric) for record in records],
        'seconds': [seconds(job) for job in jobs],
    }


def collect(args: argparse.Namespace) -> dict:
    """All results."""
    first = read_records(anchor_job(args, args.seeds[0], 'small').records)
    metric = main_metric(first)
    anchors = {name: anchor_results([anchor_job(args, seed, name) for seed in args.seeds]) for name in ENDS}
    anchors |= {bar: anchor_results([bar_job(args, seed, bar) for seed in args.seeds]) for bar in args.bars}
    lines = list(zip(anchors['small']['points'], anchors['large']['points'], strict=True))
    for runs in anchors.values():
        pairs = zip(runs['points'], lines, strict=True)
        runs['above'] = [alone.score - height(line, alone.gflops) for alone, line in pairs]
    ways = {way: way_results(args, way, lines, metric) for way in args.ways}
    if REFERENCE in ways:
        for runs in ways.values():
            for seed, reference in zip(runs['seeds'], ways[REFERENCE]['seeds'], strict=True):
                seed['against_reference'] = mean_difference(seed['hull'], reference['hull'])
    batch_size = Config.fromfile(STITCHED).train_dataloader.batch_size
    settings = {'seeds': args.seeds, 'at_once': args.jobs, 'metric': metric, 'batch_size': batch_size}
    settings |= {'images': first[0].provenance['images'], 'reference': REFERENCE}
    return {'settings': settings, 'provenance': first[0].provenance, 'anchors': anchors, 'ways': ways}


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/worthwhile_routes'), help='folder of all trainings')
    parser.add_argument('--report', type=Path, help='folder of the report (that of --out)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='0 1 2')
    parser.add_argument('--ways', nargs='+', default=list(WAYS), choices=WAYS, metavar='WAY', help='some of all ways')
    parser.add_argument('--bars', nargs='*', default=list(BARS), choices=BARS, metavar='BAR', help='some of all bars')
    parser.add_argument('--iterations', type=int, help="of every way (the config's)")
    parser.add_argument('--anchor-iterations', type=int, help="of every anchor alone (the config's)")
    parser.add_argument('--jobs', type=int, default=2, help='trainings at once, which share the cores (2)')
    args = parser.parse_args(argv)
    run_all([anchor_job(args, seed, name) for seed in args.seeds for name in ENDS], args.jobs)
    run_all([bar_job(args, seed, bar) for seed in args.seeds for bar in args.bars], args.jobs)
    run_all([stitched_job(args, seed, way) for seed in args.seeds for way in args.ways], args.jobs)
    results = collect(args)
    report = args.report or args.out
    page = format_page(results)
    write_results(report / 'worthwhile_routes.json', results, page)
    save_plot(results, plot_ways, report / 'worthwhile_routes.png')
    print(page)
    print(f'wrote worthwhile_routes.json, worthwhile_routes.md and worthwhile_routes.png to {report}')


if __name__ == '__main__':
    main()
