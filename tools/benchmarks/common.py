"""What the benchmarks share: the pair of anchors, timing two contestants by turns, and the report."""

import argparse
import ctypes
import operator
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmsnnet.cli import command
from mmsnnet.models import StitchedViT
from mmsnnet.stitching import Route, StitchSpace
from tools.benchmarks.pages import environment, join_page, markdown_table, write_results

Contestant = Callable[[], tuple[Tensor, ...]]

COLUMNS = ('case', 'GFLOPs', 'first', 'ms', 'second', 'ms', 'first / second', 'wanted')
RELATIONS = {'<=': operator.le, '>=': operator.ge}
# Two contestants that compute the same differ by rounding alone.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Pair:
    """Two anchors to stitch, with random weights, and the square images they see."""

    small: dict
    large: dict
    out_indices: tuple[int, ...]
    image_size: int

    def build(self, device: torch.device) -> StitchedViT:
        torch.manual_seed(0)
        return StitchedViT([self.small, self.large], self.out_indices, lora_rank=16).to(device)

    def images(self, device: torch.device) -> Tensor:
        """One random image (1, 3, H, W)."""
        return torch.randn(1, 3, self.image_size, self.image_size, generator=torch.manual_seed(0)).to(device)


# A layer scale of 0.1, not DeiT3's 1e-6 for a fresh model, so that the outputs that are compared depend on the blocks.
DEIT3 = Pair(
    small=dict(model='deit3_small_patch16_224', init_values=0.1),
    large=dict(model='deit3_large_patch16_224', init_values=0.1),
    out_indices=(9, 14, 19, 23),
    image_size=512,
)
TOY = Pair(
    small=dict(DEIT3.small, embed_dim=32, depth=4, num_heads=2),
    large=dict(DEIT3.large, embed_dim=64, depth=8, num_heads=4),
    out_indices=(1, 3, 5, 7),
    image_size=64,
)


def windowed(pair: Pair, window_size: int, image_size: int) -> Pair:
    """The pair with windows, and its last map alone."""
    windows = {'windowed': dict(window_size=window_size, img_size=image_size)}
    return replace(
        pair, small=pair.small | windows, large=pair.large | windows, out_indices=(-1,), image_size=image_size
    )


def example_routes(space: StitchSpace) -> dict[str, Route]:
    """A route of each kind of a pair: both anchors, and the routes that switch in the middle or at the thirds."""
    depth, large_depth = space.depths
    half, third, two_thirds = depth // 2, depth // 3, 2 * depth // 3
    b = space.boundaries[0]
    names = {
        'S': f's[0:{depth}]',
        'L': f'l[0:{large_depth}]',
        'SL': f's[0:{half}]-l[{b[half]}:{large_depth}]',
        'LS': f'l[0:{b[half]}]-s[{half}:{depth}]',
        'LSL': f'l[0:{b[third]}]-s[{third}:{two_thirds}]-l[{b[two_thirds]}:{large_depth}]',
        'SLS': f's[0:{third}]-l[{b[third]}:{b[two_thirds]}]-s[{two_thirds}:{depth}]',
    }
    return {kind: space.find(name) for kind, name in names.items()}


@dataclass(frozen=True)
class Bound:
    """What the ratio should be: ``Bound('<=', 1.02)``."""

    relation: str
    value: float

    def holds(self, ratio: float) -> bool:
        return RELATIONS[self.relation](ratio, self.value)

    def __str__(self) -> str:
        return f'{self.relation} {self.value:g}'


@dataclass(frozen=True)
class Comparison:
    """Times of two contestants on one case; the ratio is the first one's median over the second one's.

    Args:
        samples_ms: by name of the contestant, in the order measured.
        shapes: what each contestant returned.
        difference: largest difference of their values, relative to the largest value; None where shapes differ.
        bound: what the ratio should be; None where it is only for information.
        details: more to report, e.g. GFLOPs.
    """

    case: str
    samples_ms: dict[str, list[float]]
    shapes: dict[str, list[list[int]]]
    difference: float | None
    bound: Bound | None
    details: dict = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        first, second = (np.median(samples) for samples in self.samples_ms.values())
        return float(first / second)

    def to_dict(self) -> dict:
        first, second = (np.array(samples) for samples in self.samples_ms.values())
        return {
            'case': self.case,
            **self.details,
            'contestants': {
                name: {**summary(samples), 'samples_ms': samples, 'shapes': self.shapes[name]}
                for name, samples in self.samples_ms.items()
            },
            'ratio': self.ratio,
            'ratio_is': ' / '.join(self.samples_ms),
            # Each turn's own ratio: how far to trust the ratio above on a noisy machine.
            'ratio_quartiles': np.percentile(first / second, [25, 50, 75]).tolist(),
            'bound': None if self.bound is None else str(self.bound),
            'bound_holds': None if self.bound is None else self.bound.holds(self.ratio),
            'max_relative_difference': self.difference,
        }


def summary(samples_ms: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    first, median, third = np.percentile(samples_ms, [25, 50, 75]).tolist()
    return {'median_ms': median, 'q1_ms': first, 'q3_ms': third, 'iqr_ms': third - first}


def benchmark(
    file: str,
    description: str,
    run: Callable[[argparse.Namespace], list[Comparison]],
    has_model: bool = True,
    **arguments,
) -> Callable[..., None]:
    """The ``main`` of a benchmark: it takes the command line's words, compares what ``run`` does, and reports.

    Args:
        file: ``__file__`` of the benchmark.
        description: its docstring, whose first line is its question.
        has_model: whether it runs the pair of anchors; otherwise the results do not describe them.
        **arguments: of ``parse_args``.
    """

    @command
    def main(argv: Sequence[str] | None = None) -> None:
        args = parse_args(argv, description, **arguments)
        settings = {**(model_settings(args) if has_model else {}), **turns(args)}
        report(Path(file).stem, description.splitlines()[0], run(args), settings, args)

    return main


def parse_args(
    argv: Sequence[str] | None, description: str, repetitions: int, photos: bool = False, more: bool = False
) -> argparse.Namespace:
    """The arguments of every benchmark, with ``device`` as a ``torch.device`` and ``pair`` chosen.

    Args:
        argv: the command line's words; None for those of this process.
        repetitions: turns of each contestant, unless the command line says otherwise.
        photos: also take photographs.
        more: also take ``--more``, to continue from what ``--out`` holds.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('--device', type=torch.device, default='cpu', help='where to run, e.g. cpu or cuda:0 (cpu)')
    parser.add_argument('--repetitions', type=int, default=repetitions, help=f'timed turns of each ({repetitions})')
    parser.add_argument('--warmup', type=int, default=1, help='turns of each before those that are timed (1)')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='write the results here, and a table to FILE.md')
    parser.add_argument('--toy', action='store_true', help='tiny anchors and images, to try the script out in seconds')
    if photos:
        parser.add_argument('--photos', nargs='+', type=Path, default=[], metavar='FILE', help='images (random ones)')
    if more:
        parser.add_argument('--more', action='store_true', help='continue from the results at --out')
    args = parser.parse_args(argv)
    if more and args.more and not (args.out and args.out.is_file()):
        parser.error(f'--more: no results at --out {args.out}')
    if args.repetitions < 1 or args.warmup < 0:
        parser.error('--repetitions must be 1 or more, --warmup 0 or more')
    if args.out and args.out.suffix != '.json':
        parser.error(f'--out must end in .json, got {args.out}')
    if args.device.type == 'cuda' and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: PyTorch sees no CUDA device')
    args.pair = TOY if args.toy else DEIT3
    keep_freed_memory()
    return args


def keep_freed_memory() -> None:
    """Let glibc keep what it frees below 32 MiB, its own upper bound for that, from the start and for good.

    Otherwise tensors go back to the system and are faulted in again, page by page, whenever the heap ends
    with them: measured, up to a tenth of a pass, on either contestant by turns. Larger ones always go back, as in
    any program.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, -1)
        mallopt(mmap_threshold, 32 << 20)


def compare(
    case: str, contestants: dict[str, Contestant], args: argparse.Namespace, bound: Bound | None = None, **details
) -> Comparison:
    """Time two contestants by turns, A B A B ..., so that the machine's noise hits both.

    Args:
        contestants: two by name, the one whose time is divided by the other's first.
        details: more to report.

    Raises:
        RuntimeError: they return maps of the same shapes but of other values.
    """
    print(f'{case}: {" against ".join(contestants)} ...', file=sys.stderr, flush=True)
    samples_ms: dict[str, list[float]] = {name: [] for name in contestants}
    outputs: dict[str, tuple[Tensor, ...]] = {}
    for turn in range(args.warmup + args.repetitions):
        for name, run in contestants.items():
            milliseconds, outputs[name] = timed(run, args.device)
            if turn >= args.warmup:
                samples_ms[name].append(milliseconds)
    shapes = {name: [list(output.shape) for output in maps] for name, maps in outputs.items()}
    return Comparison(case, samples_ms, shapes, max_relative_difference(case, *outputs.values()), bound, details)


def timed(run: Contestant, device: torch.device) -> tuple[float, tuple[Tensor, ...]]:
    """Milliseconds that a call takes until its device is done, and what it returns."""
    synchronize(device)
    start = time.perf_counter()
    output = run()
    synchronize(device)
    return (time.perf_counter() - start) * 1e3, output


def synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def max_relative_difference(case: str, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float | None:
    """Largest difference relative to the largest value, None for other shapes."""
    if [x.shape for x in first] != [y.shape for y in second]:
        return None
    difference = max(((x - y).abs().max() / y.abs().max()).item() for x, y in zip(first, second, strict=True))
    # Written so that NaN fails too.
    if not difference <= TOLERANCE:
        raise RuntimeError(f'{case}: the contestants do not compute the same, they differ by {difference:.2g}')
    return difference


def model_settings(args: argparse.Namespace) -> dict:
    """What is timed."""
    return {
        'anchors': [args.pair.small, args.pair.large],
        'out_indices': args.pair.out_indices,
        'input_shape': list(args.pair.images(torch.device('cpu')).shape),
        'dtype': 'float32',
    }


def turns(args: argparse.Namespace) -> dict:
    """How it is timed."""
    return {'warmup': args.warmup, 'repetitions': args.repetitions, 'toy': args.toy}


def report(name: str, question: str, comparisons: list[Comparison], settings: dict, args: argparse.Namespace) -> None:
    """Print a page; write it and the JSON if ``--out`` is given."""
    results = {
        'benchmark': name,
        'question': question,
        'environment': environment(args.device),
        'settings': settings,
        'comparisons': [comparison.to_dict() for comparison in comparisons],
    }
    page = format_page(results, comparisons)
    print(page)
    if args.out:
        write_results(args.out, results, page)
        print(f'wrote {args.out} and {args.out.with_suffix(".md")}', file=sys.stderr)


def format_page(results: dict, comparisons: list[Comparison]) -> str:
    """The question, one table, what it was measured with."""
    settings = results['settings']
    measured = f'Medians of {settings["repetitions"]} turns taken alternately, in brackets the quartiles.'
    if 'input_shape' in settings:
        shape = ' x '.join(str(size) for size in settings['input_shape'])
        measured += f' Input {shape}, {settings["dtype"]}, random weights. GFLOPs count one multiply-add as one.'
    sections = [
        f'# {results["question"]}\n',
        markdown_table(COLUMNS, map(format_row, comparisons)),
        *toy_notice(settings['toy']),
        f'{measured}\n',
    ]
    return join_page(sections, results['environment'])


def toy_notice(toy: bool) -> list[str]:
    return ['**A toy run: its times say nothing.**\n'] if toy else []


def format_row(comparison: Comparison) -> list[str]:
    (first, first_ms), (second, second_ms) = comparison.samples_ms.items()
    gflops, bound = comparison.details.get('gflops'), comparison.bound
    return [
        comparison.case,
        '' if gflops is None else f'{gflops:.4g}',
        first,
        format_ms(first_ms),
        second,
        format_ms(second_ms),
        f'**{comparison.ratio:.3f}**',
        '' if bound is None else f'{bound}: {"yes" if bound.holds(comparison.ratio) else "no"}',
    ]


def format_ms(samples_ms: list[float]) -> str:
    median, first, third = (format_number(summary(samples_ms)[key]) for key in ('median_ms', 'q1_ms', 'q3_ms'))
    return f'{median} ({first}..{third})'


def format_number(value: float) -> str:
    """Four digits or more, never an exponent."""
    return f'{value:.4g}' if value < 1e4 else f'{value:.0f}'
