"""How much memory and disk does it take to evaluate all routes of a detector on COCO's 5000 images?

$ python -m tools.benchmarks.detection_memory CONFIG CHECKPOINT --out docs/benchmarks/detection_memory.json

The model detects on its test images once, with its largest anchor. These detections stand in for those of 134 routes on
as many images as are asked for, under image ids of their own. First they go through ``RouteResults``, as while routes
run; then one route's go to the metric, whose evaluators are compared. Peaks are of the resident memory, above what the
process held before.
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmsnnet.building import forget_pretrained
from mmsnnet.cli import command, config_parser, load_config
from mmsnnet.evaluation import RouteResults
from mmsnnet.evaluation.routes.coco_metric import FastCocoMetric
from mmsnnet.stitching import StitchSpace
from tools.benchmarks.pages import environment, join_page, markdown_table, write_results
from tools.benchmarks.process_memory import peak_mib, reset_peak, resident_mib

MIB = 2**20


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='of the detector')
    parser.add_argument('--images', type=int, default=5000, help='images that one route is evaluated on (5000)')
    parser.add_argument('--collect', type=int, default=400, help='images whose results are collected (400)')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='write the results here, and a table to FILE.md')
    return parser.parse_args(argv)


def detect(cfg: Config) -> tuple[list[tuple[dict, dict]], dict, str]:
    """What a metric keeps of each test image, what it knows of the data, and the annotation file."""
    cfg.log_level = 'WARNING'
    forget_pretrained(cfg.model)
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    loop, model = runner.test_loop, runner.model.eval()
    (metric,) = loop.evaluator.metrics
    with torch.no_grad():
        for batch in loop.dataloader:
            loop.evaluator.process(model.test_step(batch), batch)
    return metric.results, loop.dataloader.dataset.metainfo, cfg.test_evaluator.ann_file


def replicate_results(results: list[tuple[dict, dict]], count: int) -> list[tuple[dict, dict]]:
    """As many results as wanted, one an image, ids from 0."""
    replicas = []
    for image_id in range(count):
        truth, prediction = results[image_id % len(results)]
        replicas.append(({**truth, 'img_id': image_id}, copy.deepcopy({**prediction, 'img_id': image_id})))
    return replicas


def replicate_annotations(ann_file: str, order: list[int], count: int, path: Path) -> Path:
    """The annotations of images ``order``, again and again, ids from 0."""
    content = json.loads(Path(ann_file).read_text())
    images = {image['id']: image for image in content['images']}
    of_image: dict[int, list[dict]] = {id_: [] for id_ in images}
    for annotation in content['annotations']:
        of_image[annotation['image_id']].append(annotation)
    sources = [order[image_id % len(order)] for image_id in range(count)]
    content['images'] = [{**images[source], 'id': image_id} for image_id, source in enumerate(sources)]
    content['annotations'] = [
        {**annotation, 'image_id': image_id}
        for image_id, source in enumerate(sources)
        for annotation in of_image[source]
    ]
    for index, annotation in enumerate(content['annotations'], 1):
        annotation['id'] = index
    path.write_text(json.dumps(content))
    return path


def collect(results: list[tuple[dict, dict]], space: StitchSpace, folder: Path) -> dict:
    """Let every route add these results, image by image, flushed every second; how memory and disk grow."""
    collected = RouteResults(list(space), 1, folder / 'partial')
    collected.flush_seconds = 1.0
    rows = []
    held = resident_mib()
    for done, result in enumerate(results, 1):
        for route in space:
            collected.lists(route)[0].append(copy.deepcopy(result))
            collected.step_done()
        if done % (len(results) // 4) == 0:
            memory = resident_mib() - held
            collected.flush()
            disk = sum(path.stat().st_size for path in (folder / 'partial').glob('*.zip')) / MIB
            rows.append({'images': done, 'memory_mib': memory, 'disk_mib': disk})
    collected.delete()
    return {'routes': len(space), 'rows': rows}


def measure_evaluator(make: Callable[[], object], results: list, metainfo: dict) -> dict:
    """Seconds and peak memory of the metrics of one route."""
    metric = make()
    metric.dataset_meta = metainfo
    held = resident_mib()
    reset_peak()
    start = time.perf_counter()
    metrics = metric.compute_metrics(results)
    return {'seconds': time.perf_counter() - start, 'peak_mib': peak_mib() - held, 'metrics': metrics}


def format_page(results: dict) -> str:
    collected = results['collecting']
    sections = [
        f'# {__doc__.splitlines()[0]}\n',
        f'{results["detections_per_image"]:.1f} detections an image, {results["kib_per_image"]:.1f} KiB of boxes and '
        f'masks. {collected["routes"]} routes while they run:\n',
        markdown_table(
            ['images', 'memory MiB', 'disk MiB'],
            ([f'{row[key]:.0f}' for key in ('images', 'memory_mib', 'disk_mib')] for row in collected['rows']),
        ),
        f'The metrics of one route on {results["images"]} images, bbox and segm:\n',
        markdown_table(
            ['evaluator', 's', 'peak MiB', 'box AP'],
            (
                [name, f'{row["seconds"]:.0f}', f'{row["peak_mib"]:.0f}', str(row['metrics']['bbox_mAP'])]
                for name, row in results['evaluators'].items()
            ),
        ),
    ]
    return join_page(sections, results['environment'])


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    cfg.launcher = 'none'
    tell = partial(print, file=sys.stderr, flush=True)
    space = StitchSpace((12, 24))
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        results, metainfo, ann_file = detect(cfg)
        tell(f'detected on {len(results)} images')
        order = [truth['img_id'] for truth, _ in results]
        collecting = collect(replicate_results(results, args.collect), space, Path(folder))
        tell('collected')
        replicas = replicate_results(results, args.images)
        path = replicate_annotations(ann_file, order, args.images, Path(folder, 'annotations.json'))
        evaluators = {}
        for name in ('faster-coco-eval', 'pycocotools'):
            make = partial(FastCocoMetric, ann_file=str(path), metric=['bbox', 'segm'], evaluator=name)
            evaluators[name] = measure_evaluator(make, replicas, metainfo)
            tell(f'evaluated by {name}')
    measured = {
        'benchmark': 'detection_memory',
        'environment': environment(torch.device('cpu')),
        'images': args.images,
        'detections_per_image': sum(len(prediction['scores']) for _, prediction in results) / len(results),
        'kib_per_image': collecting['rows'][-1]['disk_mib'] * 1024 / args.collect / len(space),
        'collecting': collecting,
        'evaluators': evaluators,
    }
    page = format_page(measured)
    print(page)
    if args.out:
        write_results(args.out, measured, page)


if __name__ == '__main__':
    main()
