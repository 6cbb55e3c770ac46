"""Train one stitched model in several ways, from several seeds, and compare what comes out.

$ python -m tools.experiments.stitching_ways --data-root data/camvid --out work_dirs/stitching_ways
$ python -m tools.experiments.stitching_ways --iterations 4000 --seeds 0 1 2 3 4 --jobs 4

For each seed: both anchors alone, then every way of stitching these two. All train for the same number of batches, and
are evaluated with all routes on the validation images; for the first seed, two ways also before their first
iteration, and with a few routes on the way. Writes stitching_ways.json, stitching_ways.md, fronts.png and
iterations.png to the folder --report. A later call repeats nothing that is finished.
Each training's output is in its log.txt.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from mmengine.config import Config

from mmsnnet.cli import command
from mmsnnet.errors import UserError
from mmsnnet.registry import ROUTE_SAMPLERS
from mmsnnet.stitching import main_metric, read_records
from tools.benchmarks.pages import write_results
from tools.experiments.jobs import Job, run_all
from tools.experiments.reports import format_page, plot_curves, plot_fronts, save_plot, summary

CONFIGS = Path('configs', 'camvid')
ANCHORS = {
    'small': CONFIGS / 'anchor-s6_setr-naive_b8-1k_camvid-240x320.py',
    'large': CONFIGS / 'anchor-l12_setr-naive_b8-2k_camvid-240x320.py',
}
STITCHED = CONFIGS / 'stitched-s6-l12_setr-naive_b8-1k_camvid-240x320.py'
# What lets three seeds finish in an evening on two cores: narrower anchors, and half the batch.
SMALL_WIDTH, LARGE_WIDTH = 8, 128
SIZES = {
    'small': {'model.backbone.anchor.embed_dim': SMALL_WIDTH, 'model.decode_head.in_channels': SMALL_WIDTH},
    'large': {
        'model.backbone.anchor.embed_dim': LARGE_WIDTH,
        'model.backbone.anchor.num_heads': 2,
        'model.decode_head.in_channels': LARGE_WIDTH,
    },
    'stitched': {
        'model.backbone.anchors.0.embed_dim': SMALL_WIDTH,
        'model.backbone.anchors.1.embed_dim': LARGE_WIDTH,
        'model.backbone.anchors.1.num_heads': 2,
        'model.decode_head.in_channels': LARGE_WIDTH,
        # The small anchor is 8 channels wide: an update of rank 16, the default, would be of full rank.
        'model.backbone.lora_rank': 2,
        'custom_hooks.0.sampler.step_gflops': 0.08,
    },
}
BATCH_SIZE = 4
# Iterations, by the configs' schedule.
WARM_UP = 50
SAMPLER = 'custom_hooks.0.sampler'
UNIFORM = {SAMPLER: {'type': 'UniformSampler', '_delete_': True}}
FULL_MATRICES = {'model.backbone.lora_rank': 0}
# Ways of stitching: what their configs change of SN-Netv2's.
WAYS: dict[str, dict] = {
    'SN-Netv2': {},
    'SN-Netv2, no low-rank update': FULL_MATRICES,
    'SN-Netv2, uniform sampling': UNIFORM,
    'SN-Netv2, sandwich sampling': {SAMPLER: {'type': 'SandwichSampler', '_delete_': True}},
    'SN-Net v1': {'model.backbone.two_way': False, **FULL_MATRICES, **UNIFORM},
}
# Ways that are also evaluated as least squares leaves them, and the routes that are followed from there.
FOLLOWED = {
    'SN-Netv2': (
        's[0:6]',
        'l[0:12]',
        's[0:3]-l[6:12]',
        'l[0:6]-s[3:6]',
        's[0:2]-l[4:8]-s[4:6]',
        'l[0:4]-s[2:4]-l[8:12]',
    ),
    'SN-Net v1': ('s[0:6]', 'l[0:12]', 's[0:5]-l[10:12]', 's[0:3]-l[6:12]', 's[0:1]-l[2:12]'),
}


def job(
    kind: str, folder: Path, args: argparse.Namespace, seed: int, changes: dict, followed: tuple[str, ...] = ()
) -> Job:
    cfg = Config.fromfile({**ANCHORS, 'stitched': STITCHED}[kind])
    iterations = args.iterations
    cfg.merge_from_dict(
        {
            'randomness': {'seed': seed},
            'train_cfg': {'max_iters': iterations, 'val_interval': iterations + 1},
            'default_hooks.checkpoint.interval': iterations // 10 if followed else iterations,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            'param_scheduler.1.end': iterations,
            'train_dataloader.batch_size': BATCH_SIZE,
            **{f'{part}_dataloader.dataset.data_root': args.data_root for part in ('train', 'val', 'test')},
            **SIZES[kind],
            **changes,
        }
    )
    return Job(folder, cfg, followed)


def anchor_jobs(args: argparse.Namespace, seed: int) -> dict[str, Job]:
    return {kind: job(kind, args.out / f'{seed}' / kind, args, seed, {}) for kind in ANCHORS}


def stitched_job(args: argparse.Namespace, seed: int, way: str, is_start: bool = False) -> Job:
    """One way of stitching a seed's anchors; ``is_start``: without training anything."""
    small, large = (str(args.out / f'{seed}' / kind / f'iter_{args.iterations}.pth') for kind in ANCHORS)
    changes = {
        'model.backbone.anchors.0.init_cfg.checkpoint': small,
        'model.backbone.anchors.1.init_cfg.checkpoint': large,
        'model.decode_head.init_cfg.checkpoint': large,
        **WAYS[way],
    }
    name = way.replace(', ', '_').replace(' ', '-')
    followed = FOLLOWED.get(way, ()) if seed == args.seeds[0] else ()
    if is_start:
        changes |= {'train_cfg': {'max_iters': 1, 'val_interval': 2}, 'optim_wrapper.optimizer.lr': 0.0}
        changes |= {'default_hooks.checkpoint.interval': 1}
        name, followed = f'{name}_start', ()
    return job('stitched', args.out / f'{seed}' / name, args, seed, changes, followed)


def stitched_jobs(args: argparse.Namespace, seed: int) -> list[Job]:
    starts = [stitched_job(args, seed, way, is_start=True) for way in FOLLOWED if seed == args.seeds[0]]
    return [*starts, *(stitched_job(args, seed, way) for way in WAYS)]


def trained_gflops(job: Job) -> float:
    """GFLOPs of the mean route that was trained: samplers draw the same again."""
    cfg = job.config
    gflops = [record.gflops for record in read_records(job.records)]
    sampler = ROUTE_SAMPLERS.build(
        {'_scope_': 'mmsnnet', 'gflops': gflops, 'seed': cfg.randomness.seed, **cfg.custom_hooks[0].sampler}
    )
    return mean(gflops[sampler(iteration)] for iteration in range(cfg.train_cfg.max_iters))


def explained_variance(folder: Path) -> dict[str, tuple[float, str]]:
    """Stitching layer -> share of the features' variance that least squares explains, and the route to see it by."""
    # The last, by their folders' times: a job that was interrupted and run again has written one before.
    paths = sorted(folder.glob('*/stitching_layers.json'))
    if not paths:
        raise UserError(f'no stitching_layers.json in {folder}/*: delete that folder, to train its model anew')
    path = paths[-1]
    shares = json.loads(path.read_text())['explained_variance']
    return {layer: (share, single_switch(layer)) for layer, share in shares.items()}


def single_switch(layer: str) -> str:
    """The route that switches at a layer and nowhere else; the small anchor for the one behind its last block."""
    small_depth, large_depth = 6, 12
    direction, _, k = layer.split('.')
    block = int(k) * large_depth // small_depth
    if direction == 'down':
        return f'l[0:{block}]-s[{k}:{small_depth}]'
    return f's[0:{k}]-l[{block}:{large_depth}]' if int(k) < small_depth else f's[0:{k}]'


def curves(trained: Job, start: Job, metric: str) -> dict[str, list[tuple[int, float]]]:
    """Followed route -> (iteration, score) from the least-squares start to the end."""
    files = {0: start.records, **trained.stops, trained.config.train_cfg.max_iters: trained.records}
    lines: dict[str, list[tuple[int, float]]] = {name: [] for name in trained.followed}
    for iteration, file in files.items():
        scores = {record.name: record.metrics[metric] for record in read_records(file)}
        for name, line in lines.items():
            line.append((iteration, scores[name]))
    return lines


def anchor_results(jobs: list[Job], metric: str) -> dict:
    """One anchor, from several seeds."""
    records = [read_records(job.records)[0] for job in jobs]
    return {
        'gflops': records[0].gflops,
        'scores': [record.metrics[metric] for record in records],
        'minutes': [job.minutes for job in jobs],
    }


def way_results(args: argparse.Namespace, way: str, metric: str) -> dict:
    """One way of stitching, from several seeds."""
    jobs = [stitched_job(args, seed, way) for seed in args.seeds]
    results = {
        'routes': len(read_records(jobs[0].records)),
        'minutes': [job.minutes for job in jobs],
        'trained_gflops': [trained_gflops(job) for job in jobs],
        'seeds': [summary(read_records(job.records), metric) for job in jobs],
    }
    if way in FOLLOWED:
        start = stitched_job(args, args.seeds[0], way, is_start=True)
        results['start'] = summary(read_records(start.records), metric)
        results['explained'] = explained_variance(start.folder)
        results['curves'] = curves(jobs[0], start, metric)
    return results


def collect(args: argparse.Namespace) -> dict:
    """All results."""
    first = read_records(stitched_job(args, args.seeds[0], next(iter(WAYS))).records)
    metric = main_metric(first)
    anchors = [anchor_jobs(args, seed) for seed in args.seeds]
    return {
        'settings': {
            'iterations': args.iterations,
            'batch_size': BATCH_SIZE,
            'large_width': LARGE_WIDTH,
            'seeds': args.seeds,
            'at_once': args.jobs,
            'metric': metric,
        },
        'provenance': first[0].provenance,
        'anchors': {name: anchor_results([jobs[name] for jobs in anchors], metric) for name in ANCHORS},
        'ways': {way: way_results(args, way, metric) for way in WAYS},
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default='data/camvid', help='folder of CamVid (data/camvid)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/stitching_ways'), help='folder of all trainings')
    parser.add_argument('--report', type=Path, help='folder of the report (that of --out)')
    parser.add_argument('--iterations', type=int, default=1000, help='of every training (1000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='0 1 2')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at once, which share the cores (1)')
    args = parser.parse_args(argv)
    if args.iterations <= WARM_UP or args.iterations % 10:
        raise UserError(
            f'--iterations must be above {WARM_UP}, the warm-up, and a multiple of 10, got {args.iterations}'
        )
    args.out /= f'{args.iterations}-iterations'
    run_all([job for seed in args.seeds for job in anchor_jobs(args, seed).values()], args.jobs)
    run_all([job for seed in args.seeds for job in stitched_jobs(args, seed)], args.jobs)
    results = collect(args)
    report = args.report or args.out
    page = format_page(results)
    write_results(report / 'stitching_ways.json', results, page)
    save_plot(results, plot_fronts, report / 'fronts.png')
    save_plot(results, plot_curves, report / 'iterations.png')
    print(page)
    print(f'wrote stitching_ways.json, stitching_ways.md, fronts.png and iterations.png to {report}')


if __name__ == '__main__':
    main()
