"""Print what every route of a config's model costs: GFLOPs by fvcore's convention, and parameters.

$ python tools/flops.py CONFIG --shape 512 512 --json flops.json

A config of a single anchor gives that one line.
"""

from pathlib import Path

from torch import nn

from mmsnnet.building import build_model
from mmsnnet.cli import command, config_parser, load_config
from mmsnnet.engine import configured_input_shape
from mmsnnet.evaluation import format_table
from mmsnnet.models import StitchedViT, find_backbone, model_cost, route_costs
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import Record, write_records


@command
def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help="input size (default: the config's)"
    )
    parser.add_argument('--json', metavar='FILE', help='also write the records, without metrics, to this file')
    args = parser.parse_args()
    cfg = load_config(args)
    model = build_model(cfg)
    shape = tuple(args.shape or configured_input_shape(model, cfg))
    records = cost_records(model, shape, Path(args.config).stem)
    print(f'One image of {shape[0]}x{shape[1]}. Backbone, neck and heads; no auxiliary heads, nor what only they read.')
    if note := task_of(model).note_on_cost:
        print(note)
    print(format_table(records))
    if args.json:
        write_records(records, args.json)
        print(f'wrote {args.json}')


def cost_records(model: nn.Module, shape: tuple[int, int], name: str) -> list[Record]:
    """A record of each route, or one of a model that is not stitched."""
    if any(isinstance(module, StitchedViT) for module in model.modules()):
        costs = route_costs(model, shape)
        return [Record.of(route, costs[route.id]) for route in find_backbone(model).space]
    return [Record.of(name, model_cost(model, shape))]


if __name__ == '__main__':
    main()
