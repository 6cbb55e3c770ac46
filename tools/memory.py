"""Print how much memory training a config takes: for its cheapest, its median and its most expensive route.

$ python tools/memory.py configs/coco/stitched-deit3-s-l_mask-rcnn_8xb8-amp-lsj-100e_coco-1024x1024.py
$ python tools/memory.py CONFIG --batch-size 4 --dtype bfloat16 --with-cp

The prediction uses shapes alone. It takes seconds, needs neither a GPU nor that memory, and reads no data. A config of
a single anchor gives one line.
"""

import dataclasses

import torch
from mmengine.logging import MMLogger
from tabulate import tabulate

from mmsnnet.building import build_model
from mmsnnet.cli import command, config_parser, load_config
from mmsnnet.engine import configured_optimizer, configured_setting
from mmsnnet.evaluation import DTYPES, TrainingMemory, TrainingSetting, predict_extremes

COLUMNS = ('weights', 'gradients', 'optimizer', 'activations', 'total', 'total with DDP')


@command
def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument('--batch-size', type=int, help="images a step on one device (default: the config's)")
    parser.add_argument('--dtype', choices=DTYPES, help="precision, mixed below float32 (default: the config's)")
    parser.add_argument('--with-cp', action='store_true', help='recompute blocks in the backward pass')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='input size (default: that of training)'
    )
    args = parser.parse_args()
    if args.batch_size is not None and args.batch_size < 1:
        parser.error('--batch-size must be 1 or more')
    cfg = load_config(args)
    if args.with_cp:
        cfg.model.backbone.with_cp = True
    # MMEngine would list the settings of every parameter.
    MMLogger.get_current_instance().setLevel('ERROR')
    with torch.device('meta'):
        model = build_model(cfg)
    setting = configured_setting(model, cfg, args.shape and tuple(args.shape))
    changes = {'batch_size': args.batch_size, 'dtype': args.dtype}
    setting = dataclasses.replace(setting, **{key: value for key, value in changes.items() if value is not None})
    print(describe(setting))
    print(format_memory(predict_extremes(model, configured_optimizer(model, cfg), setting)))


def describe(setting: TrainingSetting) -> str:
    precision = 'float32' if setting.dtype == 'float32' else f'mixed precision ({setting.dtype})'
    return (
        f'GiB for a step of {setting} in {precision}, as PyTorch computes it on '
        f'{setting.device_type.upper()}.\n'
        'The total is the most at any moment; activations are what the forward pass leaves for the backward pass, in\n'
        'which gradients come as activations go. DDP: in one of many processes. CUDA itself, its libraries and\n'
        'fragments take some more: leave a tenth free.'
    )


def format_memory(predicted: dict[str, TrainingMemory]) -> str:
    """A line of GiB for each route."""
    rows = []
    for name, memory in predicted.items():
        parts = (memory.weights, memory.gradients, memory.optimizer_state, memory.activations)
        values = (*parts, memory.total(distributed=False), memory.total(distributed=True))
        rows.append([name, *(value / 2**30 for value in values)])
    return tabulate(rows, headers=['', *COLUMNS], tablefmt='plain', floatfmt='.1f')


if __name__ == '__main__':
    main()
