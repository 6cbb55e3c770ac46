"""How much memory does training the published configs take, and is what is predicted true?

$ python -m tools.benchmarks.training_memory --out docs/memory.json
$ python -m tools.benchmarks.training_memory --out docs/memory.json --measure CONFIG --data-root DATA --batch-size 1

The first predicts all configs at their batch sizes and precisions. The second trains the cheapest and the most
expensive route of a config for one step of photographs on the CPU, in float32, and compares. It takes its photographs
from the validation split of DATA; without --data-root, images are blank with 100 objects each. Peaks are of all tensors
that operators make; the resident memory is given as well, in which the allocator, libraries and buffers of operators
count too. Results are added to those in the file.
"""

import argparse
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from torch import nn

from mmsnnet.building import build_model
from mmsnnet.cli import command
from mmsnnet.engine import configured_optimizer, configured_setting
from mmsnnet.evaluation.profiling.peak_memory import CountedStorages
from mmsnnet.evaluation.profiling.training_memory import (
    TrainingMemory,
    TrainingSetting,
    TrainingStep,
    predict_extremes,
    predict_training_memory,
    routes_by_memory,
)
from mmsnnet.files import check_file
from mmsnnet.models import find_backbone
from mmsnnet.models.blank_batch import blank_batch
from tools.benchmarks.pages import environment, join_page, markdown_table, write_results
from tools.benchmarks.process_memory import peak_mib, reset_peak, resident_mib

ROOT = Path(__file__).parents[2]
# The others are the same models with other schedules.
PUBLISHED = [
    path
    for folder in ('ade20k', 'coco_stuff10k', 'coco')
    for path in sorted((ROOT / 'configs' / folder).glob('*.py'))
    if not re.search('head-lr10|36e', path.name)
]
# Parts of a prediction -> columns.
PARTS = {
    'weights': 'weights',
    'optimizer_state': 'optimizer',
    'activations': 'activations',
    'total': 'in all, one process',
    'total_distributed': 'in all, many',
}
MEASURED = ('config', 'route', 'images', 'predicted', 'measured', 'ratio', 'resident')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE.json', help='add results here; FILE.md shows them'
    )
    parser.add_argument(
        '--predict', nargs='+', metavar='CONFIG', help='configs to predict (default: the published ones)'
    )
    parser.add_argument('--measure', metavar='CONFIG', help='config to train a step of')
    parser.add_argument('--data-root', metavar='DIR', help='its data (default: blank images)')
    parser.add_argument('--cheapest', action='store_true', help='measure the cheapest route alone')
    parser.add_argument('--batch-size', type=int, help="images of the measured step (default: the config's)")
    return parser.parse_args(argv)


def predict(path: Path) -> dict:
    """The memory of a config's training as configured."""
    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = build_model(cfg)
    setting = configured_setting(model, cfg)
    predicted = predict_extremes(model, configured_optimizer(model, cfg), setting)
    routes = {
        name: {**asdict(memory), 'total': memory.total(False), 'total_distributed': memory.total(True)}
        for name, memory in predicted.items()
    }
    return {'setting': asdict(setting), 'routes': routes}


def measure(path: Path, data_root: str | None, batch_size: int | None, cheapest: bool = False) -> list[dict]:
    """Predicted and measured memory of real steps of the cheapest and the most expensive route, in float32."""
    cfg = Config.fromfile(path)
    model = build_model(cfg)
    setting = replace(configured_setting(model, cfg), dtype='float32', device_type='cpu')
    setting = replace(setting, batch_size=batch_size or setting.batch_size)
    backbone, optimizer = find_backbone(model), configured_optimizer(model, cfg)
    batch = photographs(cfg, data_root, setting.batch_size) if data_root else None
    rows, routes = [], routes_by_memory(backbone, backbone.space)
    for route in routes[:1] if cheapest else (routes[0], routes[-1]):
        backbone.set_route(route)
        predicted = predict_training_memory(model, optimizer, setting)
        row = {'route': route.name, 'images': 'photographs' if data_root else 'blank', 'batch_size': setting.batch_size}
        rows.append({**row, **compare(model, batch, setting, predicted)})
    return rows


def photographs(cfg: Config, data_root: str, count: int) -> dict:
    """A batch of the validation split, through the training pipeline. Of a detector's, those with the most objects.

    A training takes as much memory as its most crowded batch does.
    """
    given = cfg.val_dataloader.dataset
    split = {key: given[key] for key in ('ann_file', 'data_prefix') if key in given}
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, **split, 'data_root': data_root})
    most_objects = sorted(
        range(len(dataset)), key=lambda index: -len(dataset.get_data_info(index).get('instances', []))
    )
    return pseudo_collate([dataset[index] for index in most_objects[:count]])


def compare(model: nn.Module, batch: dict | None, setting: TrainingSetting, predicted: TrainingMemory) -> dict:
    held, start = resident_mib(), time.perf_counter()
    reset_peak()
    with CountedStorages() as counted:
        if batch is None:
            inputs = blank_batch(model, setting.batch_size, setting.input_shape, 'cpu')
        else:
            data = model.data_preprocessor(batch, training=True)
            inputs = data['inputs'], data['data_samples']
        TrainingStep(model.train(), setting.autocast)(*inputs)
    return {
        'predicted': predicted.step,
        'measured': counted.peak,
        'ratio': predicted.step / counted.peak,
        'resident': (peak_mib() - held) * 2**20,
        'seconds': time.perf_counter() - start,
    }


def format_page(results: dict) -> str:
    predicted, measured = sorted(results['predicted'].items()), sorted(results['measured'].items())
    sections = [
        '# How much memory training takes\n',
        'Predicted by `tools/memory.py`, in GiB on each GPU, for the cheapest and the most expensive route. The last '
        'column is the most at any moment in one of many processes, which average gradients in buckets of their own. '
        'Activations are what the forward pass leaves for the backward pass; gradients come as activations go. CUDA '
        'itself, its libraries and fragments take some more: leave a tenth free. Operators and mixed precision are '
        "those of PyTorch's CPU, with its fused attention, which keeps what CUDA's keeps. BEiT's attention has a bias "
        'that trains: there the CPU keeps the weights of all pairs of tokens, and CUDA less. In mixed precision CUDA '
        'computes norms in float32, so that those of neck and heads keep more. No GPU has '
        'confirmed these numbers yet.\n',
        markdown_table(
            ['config', 'images', 'precision', *PARTS.values()],
            (predicted_row(name, entry) for name, entry in predicted),
        ),
        '## Predicted and measured\n',
        'One training step on a CPU in float32: what it takes beyond weights and optimizer state, GiB. A prediction '
        'for a detector is of as many regions as it may sample; photographs with few objects give it fewer. '
        'Photographs are those with the most objects, up to 25, unless said otherwise; blank images have 100. '
        'Resident memory includes what the allocator keeps, and buffers inside operators.\n',
        markdown_table(MEASURED, (measured_row(name, row) for name, rows in measured for row in rows)),
    ]
    return join_page(sections, results['environment'])


def predicted_row(name: str, entry: dict) -> list[str]:
    memories = list(entry['routes'].values())
    ends = [memories[0], memories[-1]] if len(memories) > 1 else memories

    def span(key: str) -> str:
        return ' - '.join(dict.fromkeys(gib(memory[key]) for memory in ends))

    return [f'`{name}`', str(entry['setting']['batch_size']), entry['setting']['dtype'], *map(span, PARTS)]


def measured_row(name: str, row: dict) -> list[str]:
    images, sizes = f'{row["batch_size"]} {row["images"]}', (gib(row['predicted']), gib(row['measured']))
    return [f'`{name}`', row['route'], images, *sizes, f'**{row["ratio"]:.3f}**', gib(row['resident'])]


def name_of(config: Path) -> str:
    return f'{config.resolve().parent.name}/{config.stem}'


def gib(num_bytes: float) -> str:
    return f'{num_bytes / 2**30:.1f}'


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    # MMEngine would list the settings of every parameter.
    MMLogger.get_current_instance().setLevel('ERROR')
    results = json.loads(args.out.read_text()) if args.out.is_file() else {'predicted': {}, 'measured': {}}
    results['environment'] = environment(torch.device('cpu'))
    if args.measure:
        path = Path(check_file(args.measure, 'config'))
        rows = measure(path, args.data_root, args.batch_size, args.cheapest)
        kept = [row for row in results['measured'].get(name_of(path), []) if row['images'] != rows[0]['images']]
        results['measured'][name_of(path)] = kept + rows
    else:
        paths = list(map(Path, args.predict or PUBLISHED))
        results['predicted'] |= {name_of(path): predict(path) for path in paths}
    page = format_page(results)
    write_results(args.out, results, page)
    print(page)


if __name__ == '__main__':
    main()
