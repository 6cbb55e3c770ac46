"""Train one stitched model in several ways, from several seeds, and compare what comes out.

$ python tools/experiments.py --data-root data/camvid --out work_dirs/experiments
$ python tools/experiments.py --iterations 1000 --seeds 0 1 2 3 4

For each seed: both anchors alone, then every way of stitching these two. All train for the same number of batches, and
are evaluated with all stitches on the validation images; two ways also before their first iteration. Writes
experiments.json, experiments.md and experiments.png to the folder --report. What is finished is not repeated: a call
goes on where the last one stopped.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from mmengine.config import Config

from mmsnnet.cli import command
from mmsnnet.stitching import Record, front_records, hypervolume, main_metric, read_records

CONFIGS = Path('configs', 'camvid')
ANCHORS = {
    'small': CONFIGS / 'anchor-s6_setr-naive_b8-1k_camvid-240x320.py',
    'large': CONFIGS / 'anchor-l12_setr-naive_b8-1k_camvid-240x320.py',
}
STITCHED = CONFIGS / 'stitched-s6-l12_setr-naive_b8-1k_camvid-240x320.py'
SAMPLER = 'custom_hooks.0.sampler'
UNIFORM = {SAMPLER: {'type': 'UniformSampler', '_delete_': True}}
FULL_MATRICES = {'model.backbone.lora_rank': 0}
# Ways of stitching: what their configs change of SN-Netv2's.
WAYS: dict[str, dict] = {
    'SN-Netv2': {},
    'SN-Netv2, full matrices': FULL_MATRICES,
    'SN-Netv2, uniform sampling': UNIFORM,
    'SN-Netv2, sandwich sampling': {SAMPLER: {'type': 'SandwichSampler', '_delete_': True}},
    'SN-Net v1': {'model.backbone.two_way': False, **FULL_MATRICES, **UNIFORM},
}
# Ways that are also evaluated as least squares leaves them.
STARTS = ('SN-Netv2', 'SN-Net v1')


@dataclass
class Job:
    """One training and its evaluation."""

    folder: Path
    config: Config

    @property
    def records(self) -> Path:
        return self.folder / 'stitches.json'

    @property
    def minutes(self) -> float:
        return json.loads((self.folder / 'minutes.json').read_text())

    def run(self) -> None:
        """Train and evaluate, unless that is done."""
        if self.records.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / 'config.py'
        self.config.dump(path)
        checkpoint = self.folder / f'iter_{self.config.train_cfg.max_iters}.pth'
        start = time.time()
        run('tools/train.py', path, '--work-dir', self.folder, '--progress')
        (self.folder / 'minutes.json').write_text(json.dumps((time.time() - start) / 60))
        run('tools/test.py', path, checkpoint, '--work-dir', self.folder, '--progress')


def run(*words: str | Path) -> None:
    """Run one of our command lines, which says itself why it failed."""
    print('$ python', *words, flush=True)
    done = subprocess.run([sys.executable, *map(str, words)], check=False)
    if done.returncode:
        sys.exit(f'stopped: {words[0]} ended with status {done.returncode}')


def job(base: Path, folder: Path, args: argparse.Namespace, seed: int, changes: dict) -> Job:
    cfg = Config.fromfile(base)
    iterations = args.iterations
    cfg.merge_from_dict(
        {
            'randomness': {'seed': seed},
            'train_cfg': {'max_iters': iterations, 'val_interval': iterations + 1},
            'default_hooks.checkpoint.interval': iterations,
            'param_scheduler.1.end': iterations,
            **{f'{part}_dataloader.dataset.data_root': args.data_root for part in ('train', 'val', 'test')},
            **changes,
        }
    )
    return Job(folder, cfg)


def anchor_jobs(args: argparse.Namespace, seed: int) -> dict[str, Job]:
    return {name: job(base, args.out / f'{seed}' / name, args, seed, {}) for name, base in ANCHORS.items()}


def stitched_job(args: argparse.Namespace, seed: int, way: str, is_start: bool = False) -> Job:
    """One way of stitching a seed's anchors; ``is_start``: without training anything."""
    small, large = (str(anchor.folder / f'iter_{args.iterations}.pth') for anchor in anchor_jobs(args, seed).values())
    changes = {
        'model.backbone.anchors.0.init_cfg.checkpoint': small,
        'model.backbone.anchors.1.init_cfg.checkpoint': large,
        'model.decode_head.init_cfg.checkpoint': large,
        **WAYS[way],
    }
    name = way.replace(', ', '_').replace(' ', '-')
    if is_start:
        changes |= {'train_cfg': {'max_iters': 1, 'val_interval': 2}, 'optim_wrapper.optimizer.lr': 0.0}
        changes |= {'default_hooks.checkpoint.interval': 1}
        name += '_start'
    return job(STITCHED, args.out / f'{seed}' / name, args, seed, changes)


def trained_gflops(folder: Path) -> float:
    """GFLOPs of the mean route that was trained, by the log."""
    logs = [file.read_text() for file in folder.glob('*/vis_data/scalars.json')]
    lines = [json.loads(line) for log in logs for line in log.splitlines()]
    return mean(line['route_gflops'] for line in lines if 'route_gflops' in line)


def summary(records: Sequence[Record], metric: str) -> dict:
    """What one evaluation of a stitched model comes to, over all budgets from the small to the large anchor's."""
    costs = [record.gflops for record in records]
    scores = [record.metrics[metric] for record in records]
    front = front_records(records, metric)
    small, large = records[:2]
    return {
        'hypervolume': hypervolume(costs, scores, max_cost=large.gflops, min_cost=small.gflops),
        'dominated': len(records) - len(front),
        'small': small.metrics[metric],
        'large': large.metrics[metric],
        'front': [(record.gflops, record.metrics[metric]) for record in front],
    }


def collect(args: argparse.Namespace) -> dict:
    """All results: for each way, one of each seed."""
    anchors = {
        name: [
            {'minutes': job.minutes, **vars(read_records(job.records)[0])}
            for job in (anchor_jobs(args, seed)[name] for seed in args.seeds)
        ]
        for name in ANCHORS
    }
    first = read_records(stitched_job(args, args.seeds[0], 'SN-Netv2').records)
    metric = main_metric(first)
    ways = {}
    for way in WAYS:
        jobs = [stitched_job(args, seed, way) for seed in args.seeds]
        ways[way] = {
            'stitches': len(read_records(jobs[0].records)),
            'minutes': [job.minutes for job in jobs],
            'trained_gflops': [trained_gflops(job.folder) for job in jobs],
            'seeds': [summary(read_records(job.records), metric) for job in jobs],
        }
        if way in STARTS:
            starts = [stitched_job(args, seed, way, is_start=True) for seed in args.seeds]
            ways[way]['start'] = [summary(read_records(job.records), metric) for job in starts]
    return {
        'settings': {'iterations': args.iterations, 'seeds': args.seeds, 'metric': metric},
        'provenance': first[0].provenance,
        'anchors': anchors,
        'ways': ways,
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation."""
    deviation = f' ± {stdev(values):.{digits}f}' if len(values) > 1 else ''
    return f'{mean(values):.{digits}f}{deviation}'


def page(results: dict) -> str:
    """The tables."""
    settings = results['settings']
    metric, num_seeds = settings['metric'], len(settings['seeds'])
    lines = [
        f'# Ways of stitching: {settings["iterations"]} iterations each, {num_seeds} seeds\n',
        f'{metric} of the validation images, mean ± standard deviation over seeds. Each seed trains its own anchors; '
        'all ways start from them. Hypervolume is the mean, over budgets from the small to the large anchor, of what '
        'the best stitch within the budget scores. GFLOPs are of the mean stitch trained, forward, one image.\n',
        f'| anchor alone | GFLOPs | {metric} | minutes |',
        '|---|---:|---:|---:|',
    ]
    for name, runs in results['anchors'].items():
        scores, minutes = [run['metrics'][metric] for run in runs], [run['minutes'] for run in runs]
        lines.append(f'| {name} | {runs[0]["gflops"]:.3g} | {spread(scores)} | {spread(minutes, 1)} |')
    lines += [
        '\n| way | stitches | hypervolume | dominated | small anchor | large anchor | GFLOPs trained | minutes |',
        '|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for way, runs in results['ways'].items():
        columns = [
            spread([seed[key] for seed in runs['seeds']]) for key in ('hypervolume', 'dominated', 'small', 'large')
        ]
        columns += [spread(runs['trained_gflops'], 3), spread(runs['minutes'], 1)]
        lines.append(f'| {way} | {runs["stitches"]} | {" | ".join(columns)} |')
    lines += ['\n| before the first iteration | hypervolume | small anchor | large anchor |', '|---|---:|---:|---:|']
    for way, runs in results['ways'].items():
        if 'start' in runs:
            columns = [spread([seed[key] for seed in runs['start']]) for key in ('hypervolume', 'small', 'large')]
            lines.append(f'| {way} | {" | ".join(columns)} |')
    provenance = results['provenance']
    versions = ', '.join(f'{name} {version}' for name, version in provenance['versions'].items())
    lines.append(f'\n{provenance["device"]}, {versions}.')
    return '\n'.join(lines) + '\n'


def plot(results: dict, path: Path) -> None:
    """Fronts, a thin line for each seed and the mean of all seeds as a thick one, anchors alone as stars."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    metric = results['settings']['metric']
    figure, axes = plt.subplots(figsize=(10, 5), layout='constrained')
    for index, (way, runs) in enumerate(results['ways'].items()):
        fronts = [seed['front'] for seed in runs['seeds']]
        budgets = sorted({cost for front in fronts for cost, _ in front})
        budgets = [budget for budget in budgets if all(front[0][0] <= budget for front in fronts)]
        best = [[max(score for cost, score in front if cost <= budget) for budget in budgets] for front in fronts]
        for scores in best:
            axes.step(budgets, scores, where='post', color=f'C{index}', linewidth=0.6, alpha=0.5)
        axes.step(budgets, list(map(mean, zip(*best, strict=True))), where='post', color=f'C{index}', label=way)
    for runs in results['anchors'].values():
        scores = [run['metrics'][metric] for run in runs]
        label = 'anchor trained alone' if runs is results['anchors']['small'] else None
        axes.plot([run['gflops'] for run in runs], scores, '*', color='black', markersize=9, label=label)
    axes.set(xlabel='GFLOPs', ylabel=metric, title='Best stitch within a budget, mean of the seeds')
    axes.grid(alpha=0.3)
    figure.legend(loc='outside right upper')
    figure.savefig(path, dpi=150)
    plt.close(figure)


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default='data/camvid', help='folder of CamVid (data/camvid)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/experiments'), help='folder of all trainings')
    parser.add_argument('--report', type=Path, help='folder of the report (that of --out)')
    parser.add_argument('--iterations', type=int, default=250, help='of every training (250)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='0 1 2')
    args = parser.parse_args()
    args.out /= f'{args.iterations}-iterations'
    for seed in args.seeds:
        for anchor in anchor_jobs(args, seed).values():
            anchor.run()
        for way in WAYS:
            stitched_job(args, seed, way).run()
        for way in STARTS:
            stitched_job(args, seed, way, is_start=True).run()
    results = collect(args)
    report = args.report or args.out
    report.mkdir(parents=True, exist_ok=True)
    (report / 'experiments.json').write_text(json.dumps(results, indent=1) + '\n')
    (report / 'experiments.md').write_text(page(results))
    plot(results, report / 'experiments.png')
    print(page(results))
    print(f'wrote experiments.json, .md and .png to {report}')


if __name__ == '__main__':
    main()
