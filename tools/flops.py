"""Print what every stitch of a config's model costs: GFLOPs by fvcore's convention, and parameters.

$ python tools/flops.py CONFIG --shape 512 512 --json flops.json
"""

from mmsnnet.cli import build_model, command, config_parser, load_config
from mmsnnet.evaluation import format_table
from mmsnnet.models import find_backbone, measure_costs
from mmsnnet.stitching import Record, write_records


@command
def main() -> None:
    parser = config_parser(__doc__)
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), default=(512, 512), help='input size (512 512)'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the records, without metrics, to this file')
    args = parser.parse_args()
    model = build_model(load_config(args))
    costs = measure_costs(model, tuple(args.shape))
    records = [Record.of(route, costs[route.id]) for route in find_backbone(model).space]
    print(format_table(records))
    if args.json:
        write_records(records, args.json)
        print(f'wrote {args.json}')


if __name__ == '__main__':
    main()
