"""Segment a sequence of images, or estimate their depth, at a frame rate.

It switches routes when the device gets slower or faster.

$ python tools/stream.py CONFIG CHECKPOINT --records benchmark/stitches.json --images FOLDER --target-ms 40
$ python tools/stream.py ... --disturb 50-100 --plot stream.png

The records of tools/benchmark.py --latency on this device give each route's latency. A BudgetController moves along
their front. --disturb lets other processes compete for the CPU during some frames.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from mmengine.config import Config
from torch import nn

from mmsnnet.building import forget_pretrained, forget_truth
from mmsnnet.cli import command, config_parser
from mmsnnet.errors import UserError
from mmsnnet.files import check_file, find_images
from mmsnnet.models import find_backbone, folded_updates
from mmsnnet.stitching import BudgetController, Record, read_records


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file of the stitched model')
    parser.add_argument('--records', required=True, metavar='FILE', help='stitches.json with latencies')
    parser.add_argument('--images', required=True, type=Path, metavar='DIR', help='frames, in the order of their names')
    parser.add_argument('--target-ms', type=float, required=True, help='the most a frame should take')
    parser.add_argument('--patience', type=int, default=10, help='frames before moving to a more expensive route (10)')
    parser.add_argument('--repeat', type=int, default=1, help='number of passes over the images (1)')
    parser.add_argument('--disturb', metavar='FROM-TO', help='frames during which other processes compete')
    parser.add_argument('--device', default='cpu', help='cpu or cuda:0 (cpu)')
    parser.add_argument('--plot', metavar='FILE', help='draw times and routes of all frames')
    return parser.parse_args()


def parse_frames(words: str | None) -> range:
    """``'50-100'`` -> frames 50 to 99."""
    if words is None:
        return range(0)
    first, _, last = words.partition('-')
    if not (first.isdecimal() and last.isdecimal()):
        raise UserError(f'--disturb takes two frames such as 50-100, got {words!r}')
    return range(int(first), int(last))


def burn() -> None:
    while True:
        pass


@contextmanager
def disturbance() -> Iterator['Disturbance']:
    load = Disturbance()
    try:
        yield load
    finally:
        load.set(False)


class Disturbance:
    """Processes that keep half of the CPUs busy while it is on."""

    def __init__(self) -> None:
        self._processes: list[multiprocessing.Process] = []

    def set(self, on: bool) -> None:
        if on and not self._processes:
            count = max(1, multiprocessing.cpu_count() // 2)
            self._processes = [multiprocessing.Process(target=burn, daemon=True) for _ in range(count)]
            for process in self._processes:
                process.start()
        elif not on:
            for process in self._processes:
                process.kill()
            self._processes = []


def plot(history: Sequence[tuple[Record, float]], target_ms: float, disturbed: range, path: str) -> None:
    """Times and GFLOPs of the routes over frames."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, (times, costs) = plt.subplots(2, sharex=True, figsize=(8, 5), layout='constrained')
    times.plot([milliseconds for _, milliseconds in history], color='#0072B2', linewidth=1)
    times.axhline(target_ms, color='#D55E00', linestyle='--', label='target')
    times.set(ylabel='ms a frame', ylim=(0, None))
    times.legend()
    costs.step(range(len(history)), [record.gflops for record, _ in history], where='mid', color='#009E73')
    costs.set(xlabel='frame', ylabel='GFLOPs of the route', ylim=(0, None))
    if disturbed:
        for axes in (times, costs):
            axes.axvspan(disturbed.start, min(disturbed.stop, len(history)), color='#999999', alpha=0.25)
    figure.savefig(path, dpi=150)


def time_frame(model: nn.Module, image: Path) -> float:
    """Milliseconds from the file to the labels, or to the depth."""
    # After mmsnnet, without which it needs compiled mmcv.
    from mmseg.apis import inference_model

    start = time.perf_counter()
    sample = inference_model(model, str(image))
    # Copying the result to the CPU waits until the frame is done on any device.
    sample.get('pred_depth_map', sample.get('pred_sem_seg')).data.cpu()
    return (time.perf_counter() - start) * 1e3


def measure_overhead(model: nn.Module, records: Sequence[Record], images: Sequence[Path]) -> float:
    """Milliseconds that a frame takes beyond what was benchmarked."""
    record = min(records, key=lambda record: record.latency_ms or 0)
    find_backbone(model).set_route(record.id)
    times = [time_frame(model, image) for image in images[:10]]
    return max(0.0, median(times[1:] or times) - (record.latency_ms or 0))


@command
def main() -> None:
    args = parse_args()
    records, images, disturbed = read_records(args.records), find_images(args.images), parse_frames(args.disturb)
    cfg = Config.fromfile(check_file(args.config, 'config'))
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if 'decode_head' not in cfg.model:
        raise UserError(f'this tool runs segmentors and depth estimators, and this is a {cfg.model.type}')
    forget_pretrained(cfg.model)
    forget_truth(cfg)
    from mmseg.apis import init_model

    model = init_model(cfg, check_file(args.checkpoint, 'checkpoint'), device=args.device)
    backbone = find_backbone(model)
    with folded_updates(model):
        overhead_ms = measure_overhead(model, records, images)
    print(f'in addition to the route, a frame takes {overhead_ms:.1f} ms')
    controller = BudgetController(records, args.target_ms, patience=args.patience, overhead_ms=overhead_ms)
    history: list[tuple[Record, float]] = []
    # Routes with adapters run as fast as their records say.
    with folded_updates(model), disturbance() as load:
        for frame, image in enumerate(images * args.repeat):
            load.set(frame in disturbed)
            record = controller.record
            backbone.set_route(record.id)
            milliseconds = time_frame(model, image)
            history.append((record, milliseconds))
            if controller.update(milliseconds) is not record:
                print(f'frame {frame}: {milliseconds:.1f} ms with {record.name}, next {controller.record.name}')
    late = sum(milliseconds > args.target_ms for _, milliseconds in history)
    print(f'{late} of {len(history)} frames took longer than {args.target_ms:g} ms')
    if args.plot:
        plot(history, args.target_ms, disturbed, args.plot)
        print(f'wrote {args.plot}')


if __name__ == '__main__':
    main()
