"""How close is a route's latency, estimated from the times of its blocks, to what is measured?

$ python -m tools.benchmarks.latency_estimate --out docs/benchmarks/latency_estimate.json

Every route of DeiT3-S and -L at 512x512, batch 1: timed passes against the sum of what its embedding, blocks,
stitching layers and taps take, each timed in passes of the anchors and of two routes. All routes are timed in
turns, a few right after each estimate, and a route's error is the median over its passes of the estimate over the
pass: a machine that is slower or faster for minutes then hits both alike. The estimate should be within 5 % for every
route; those for which it is not after these turns are timed ten times more, each time after another estimate. Results
are written after each turn; --more continues those turns from results that this machine has written to --out
before.
"""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from statistics import median

from mmsnnet.cli import command
from mmsnnet.evaluation import LatencyBench, LatencySetting
from mmsnnet.stitching import Route
from tools.benchmarks.common import parse_args, toy_notice
from tools.benchmarks.pages import environment, join_page, markdown_table, write_results

LARGEST_ERROR_PERCENT = 5.0
# Routes timed between two estimates.
CHUNK = 18
MORE_TURNS = 10

Samples = dict[str, list[float]]


def run_benchmark(args: Namespace) -> Iterator[dict]:
    """Results after each turn."""
    size = args.pair.image_size
    backbone = args.pair.build(args.device).eval()
    bench = LatencyBench(backbone, LatencySetting((size, size), repetitions=1))
    routes = list(backbone.space)
    earlier = json.loads(args.out.read_text()) if args.more else None
    samples: Samples = {row['route']: row['samples_ms'] for row in earlier['routes']} if earlier else {}
    estimates: Samples = {row['route']: row['estimates_ms'] for row in earlier['routes']} if earlier else {}
    estimate_s = [earlier['estimate_s']] if earlier else []
    settings = {
        'anchors': [args.pair.small, args.pair.large],
        'input_shape': [1, 3, size, size],
        'dtype': 'float32',
        'repetitions': earlier['settings']['repetitions'] if earlier else args.repetitions,
        'toy': args.toy,
    }

    def turn(timed: list[Route]) -> dict:
        for first in range(0, len(timed), CHUNK):
            chunk = timed[first : first + CHUNK]
            start = time.perf_counter()
            for route, milliseconds in bench.estimate(chunk).items():
                estimates.setdefault(route.name, []).append(milliseconds)
            estimate_s.append(time.perf_counter() - start)
            for route, measured in bench.measure(chunk).items():
                samples.setdefault(route.name, []).extend(measured.samples_ms)
        rows = [row(route, samples, estimates) for route in routes]
        return {
            'benchmark': 'latency_estimate',
            'environment': environment(args.device),
            'settings': settings,
            **summary(rows),
            'estimate_s': median(estimate_s),
            'routes': rows,
        }

    if not earlier:
        for _ in range(args.repetitions):
            yield turn(routes)
    first = settings['repetitions']
    beyond = [
        route
        for route in routes
        if abs(error_percent(samples[route.name][:first], estimates[route.name][:first])) > LARGEST_ERROR_PERCENT
    ]
    # All of the turns, also where the first of them brings a route within the bound: stopping there would be choosing.
    while waiting := [route for route in beyond if len(samples[route.name]) < first + MORE_TURNS]:
        yield turn(waiting)


def summary(rows: list[dict]) -> dict:
    errors = [abs(row['error_percent']) for row in rows]
    spreads = [spread_percent(row['samples_ms']) for row in rows]
    return {
        'median_error_percent': median(errors),
        'largest_error_percent': max(errors),
        'within_bound': sum(error <= LARGEST_ERROR_PERCENT for error in errors),
        # How far the machine itself is from giving the same time twice.
        'median_spread_percent': median(spreads),
        'largest_spread_percent': max(spreads),
    }


def error_percent(samples_ms: list[float], estimates_ms: list[float]) -> float:
    pairs = zip(estimates_ms, samples_ms, strict=True)
    return (median(estimate / sample for estimate, sample in pairs) - 1) * 100


def row(route: Route, samples: Samples, estimates: Samples) -> dict:
    return {
        'route': route.name,
        'measured_ms': median(samples[route.name]),
        'samples_ms': samples[route.name],
        'estimate_ms': median(estimates[route.name]),
        'estimates_ms': estimates[route.name],
        'error_percent': error_percent(samples[route.name], estimates[route.name]),
    }


def spread_percent(samples_ms: list[float]) -> float:
    return (max(samples_ms) / min(samples_ms) - 1) * 100


def format_page(results: dict) -> str:
    """The summary, and every route."""
    settings = results['settings']
    again = sum(len(row['samples_ms']) > settings['repetitions'] for row in results['routes'])
    shape = ' x '.join(map(str, settings['input_shape']))
    sections = [
        f'# {__doc__.splitlines()[0]}\n',
        f'Median error {results["median_error_percent"]:.2f} %, largest {results["largest_error_percent"]:.2f} %; '
        f'{results["within_bound"]} of {len(results["routes"])} routes within {LARGEST_ERROR_PERCENT:g} %. '
        f'Passes of one and the same route differ by {results["median_spread_percent"]:.1f} % in the median, '
        f'{results["largest_spread_percent"]:.0f} % at most. An estimate of all routes takes '
        f'{results["estimate_s"]:.0f} s.\n',
        *toy_notice(settings['toy']),
        markdown_table(
            ['route', 'measured ms', 'estimated ms', 'error %'],
            (
                [row['route'], f'{row["measured_ms"]:.4g}', f'{row["estimate_ms"]:.4g}', f'{row["error_percent"]:+.2f}']
                for row in results['routes']
            ),
        ),
        f'Medians of {settings["repetitions"]} passes ({again} routes: more), of the estimates before them, and of '
        f'their ratios. Input {shape}, {settings["dtype"]}, random weights, backbone alone.\n',
    ]
    return join_page(sections, results['environment'])


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv, __doc__, repetitions=3, more=True)
    results = None
    for results in run_benchmark(args):
        if args.out:
            write_results(args.out, results, format_page(results))
            print(f'wrote {args.out}: {results["within_bound"]} within {LARGEST_ERROR_PERCENT:g} %', file=sys.stderr)
    print(format_page(results) if results else 'no route is to be timed again')


if __name__ == '__main__':
    main()
