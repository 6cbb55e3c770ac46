"""Show in the browser what the routes of a trained model do with pictures and videos.

$ pip install -e '.[demo]'
$ python tools/demo.py CONFIG CHECKPOINT --records benchmark/stitches.json

Records come from tools/test.py and tools/benchmark.py; with --latency, budgets may be milliseconds, and videos are
shown. The page is for this machine alone, unless --host says otherwise. It calls nothing outside.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from mmsnnet.cli import command, config_parser, load_config
from mmsnnet.demo import Choices, RoutePredictor
from mmsnnet.errors import UserError
from mmsnnet.files import check_file, find_images
from mmsnnet.stitching import read_records

NUM_EXAMPLES = 8


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file of the stitched model')
    parser.add_argument('--records', required=True, metavar='FILE', help='stitches.json of the model')
    parser.add_argument('--metric', help='to rank routes by (mIoU, a box AP or rmse, else the first)')
    parser.add_argument('--examples', type=Path, metavar='DIR', help='pictures to try (default: drawn ones)')
    parser.add_argument('--title', default='Routes of one model', help='of the page')
    parser.add_argument('--device', default='cpu', help='cpu or cuda:0 (cpu)')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen at; 0.0.0.0 for a network (127.0.0.1)')
    parser.add_argument('--port', type=int, help='port to listen at (the first free one from 7860)')
    parser.add_argument('--share', action='store_true', help="let others reach it through Gradio's servers")
    return parser.parse_args()


def draw_examples(folder: Path, is_depth: bool) -> list[Path]:
    """Draw rooms for depth, and shapes for everything else."""
    if is_depth:
        from make_rooms import draw_sample
    else:
        from make_shapes import draw_sample

    paths = [folder / f'{number}.png' for number in range(NUM_EXAMPLES)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), draw_sample(np.random.default_rng([1, number]))[0])
    return paths


@command
def main() -> None:
    args = parse_args()
    cfg, checkpoint = load_config(args), check_file(args.checkpoint, 'checkpoint')
    choices = Choices(read_records(args.records), args.metric)
    try:
        from mmsnnet.demo.server import build_page, serve
    except ModuleNotFoundError as error:
        raise UserError(f"the demo needs {error.name}: pip install -e '.[demo]' -c constraints.txt") from error
    predictor = RoutePredictor(cfg, checkpoint, args.device)
    choices.check_space(len(predictor.backbone.space))
    with tempfile.TemporaryDirectory() as drawn:
        is_depth = cfg.model.type == 'DepthEstimator'
        examples = find_images(args.examples) if args.examples else draw_examples(Path(drawn), is_depth)
        serve(build_page(predictor, choices, examples, args.title), args.host, args.port, args.share)


if __name__ == '__main__':
    main()
