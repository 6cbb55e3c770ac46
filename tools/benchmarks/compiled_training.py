"""How much faster does a route train when blocks are compiled, and how many are compiled for all routes?

$ python -m tools.benchmarks.compiled_training --out docs/benchmarks/compiled_training.json

The training step of train_step.py, float32, with and without compile_blocks. Blocks and stitching layers are compiled
when a route first runs them; every further route should find its own compiled already. Graphs are counted after the
routes shown and again after a step of 20 routes more.
"""

import copy
import time
from argparse import Namespace

import torch

from mmsnnet.models.compilation import compile_parts
from tools.benchmarks.common import Comparison, benchmark, compare, example_routes
from tools.benchmarks.train_step import make_batch, make_step, make_supernet

KINDS = ('S', 'L', 'SLS')
NUM_MORE_ROUTES = 20


def num_graphs() -> int:
    """Graphs that have been compiled in this process."""
    return torch._dynamo.utils.counters['stats']['unique_graphs']


def run_benchmark(args: Namespace) -> list[Comparison]:
    eager = make_supernet(args)
    backbone = eager.backbone
    compiled = copy.deepcopy(eager)
    compile_parts(compiled.backbone)
    images, labels = make_batch(backbone, args)
    steps = {'as written': make_step(eager, images, labels), 'compiled': make_step(compiled, images, labels)}
    comparisons = []
    for kind, route in example_routes(backbone.space).items():
        if kind not in KINDS:
            continue
        for model in (eager, compiled):
            model.backbone.set_route(route)
        start = time.perf_counter()
        steps['compiled']()
        details = {'first_step_s': time.perf_counter() - start, 'graphs': num_graphs()}
        # Both have made as many steps.
        steps['as written']()
        comparisons.append(compare(f'{kind} {route}', steps, args, None, **details))
    for route in list(backbone.space)[:: max(1, len(backbone.space) // NUM_MORE_ROUTES)]:
        compiled.backbone.set_route(route)
        steps['compiled']()
    comparisons[-1].details['graphs_after_more_routes'] = num_graphs()
    return comparisons


main = benchmark(__file__, __doc__, run_benchmark, repetitions=5)


if __name__ == '__main__':
    main()
