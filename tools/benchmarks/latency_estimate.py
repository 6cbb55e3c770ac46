"""How close is a route's latency, estimated from the times of its blocks, to what is measured?

$ python tools/benchmarks/latency_estimate.py --out docs/benchmarks/latency_estimate.json

Every route of DeiT3-S and -L at 512x512, batch 1: the median of timed passes against the sum of what its embedding,
blocks, stitching layers and taps take, each timed in passes of the anchors and of two stitches. The estimate should
be within 5 % for every route.
"""

import json
import sys
import time
from argparse import Namespace
from statistics import median

from common import environment, parse_args

from mmsnnet.cli import command
from mmsnnet.evaluation import LatencyBench, LatencySetting
from mmsnnet.evaluation.latency import Measurement
from mmsnnet.stitching import Route

LARGEST_ERROR_PERCENT = 5.0
CHUNK = 10


def run_benchmark(args: Namespace) -> dict:
    size = args.pair.image_size
    backbone = args.pair.build(args.device).eval()
    bench = LatencyBench(backbone, LatencySetting((size, size), repetitions=args.repetitions))
    routes = list(backbone.space)
    estimate_s, measure_s = [], 0.0
    rows = []

    def estimate() -> dict[Route, float]:
        start = time.perf_counter()
        estimates = bench.estimate(routes)
        estimate_s.append(time.perf_counter() - start)
        return estimates

    # A few routes at a time, between two estimates whose mean counts: a drift of the machine's speed is no error.
    before = estimate()
    for first in range(0, len(routes), CHUNK):
        chunk = routes[first : first + CHUNK]
        start = time.perf_counter()
        measured = bench.measure(chunk)
        measure_s += time.perf_counter() - start
        after = estimate()
        rows += [row(route.name, measured[route], (before[route] + after[route]) / 2) for route in chunk]
        before = after
    errors = [abs(row['error_percent']) for row in rows]
    return {
        'benchmark': 'latency_estimate',
        'environment': environment(args.device),
        'settings': {
            'anchors': [args.pair.small, args.pair.large],
            'input_shape': [1, 3, size, size],
            'dtype': 'float32',
            'repetitions': args.repetitions,
            'toy': args.toy,
        },
        'median_error_percent': median(errors),
        'largest_error_percent': max(errors),
        'within_bound': sum(error <= LARGEST_ERROR_PERCENT for error in errors),
        'estimate_s': median(estimate_s),
        'measure_s': measure_s,
        'routes': rows,
    }


def row(name: str, measured: Measurement, estimate_ms: float) -> dict:
    milliseconds = median(measured.samples_ms)
    return {
        'route': name,
        'measured_ms': milliseconds,
        'samples_ms': measured.samples_ms,
        'estimate_ms': estimate_ms,
        'error_percent': (estimate_ms / milliseconds - 1) * 100,
        'activations_mb': measured.activations_mb,
    }


def table(results: dict) -> str:
    """A page: the summary, and every route."""
    settings, env = results['settings'], results['environment']
    lines = [
        f'# {__doc__.splitlines()[0]}\n',
        f'Median error {results["median_error_percent"]:.2f} %, largest {results["largest_error_percent"]:.2f} %; '
        f'{results["within_bound"]} of {len(results["routes"])} routes within {LARGEST_ERROR_PERCENT:g} %. '
        f'An estimate took {results["estimate_s"]:.0f} s, measuring {results["measure_s"]:.0f} s.\n',
    ]
    if settings['toy']:
        lines.append('**A toy run: its times say nothing.**\n')
    lines += ['| route | measured ms | estimated ms | error % |', '|---|---:|---:|---:|']
    lines += [
        f'| {row["route"]} | {row["measured_ms"]:.4g} | {row["estimate_ms"]:.4g} | {row["error_percent"]:+.2f} |'
        for row in results['routes']
    ]
    versions = ', '.join(f'{name} {version}' for name, version in env['versions'].items())
    shape = ' x '.join(map(str, settings['input_shape']))
    lines += [
        f'\nMedians of {settings["repetitions"]} passes; the mean of an estimate before and one after every {CHUNK} '
        f'routes. Input {shape}, {settings["dtype"]}, random weights, backbone alone.\n',
        f'{env["device"]} ({env["cpu"]}), {env["num_threads"]} threads, Python {env["python"]}, {versions}.',
    ]
    return '\n'.join(lines) + '\n'


@command
def main() -> None:
    args = parse_args(__doc__, repetitions=3)
    results = run_benchmark(args)
    page = table(results)
    print(page)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results, indent=1) + '\n')
        args.out.with_suffix('.md').write_text(page)
        print(f'wrote {args.out} and {args.out.with_suffix(".md")}', file=sys.stderr)


if __name__ == '__main__':
    main()
