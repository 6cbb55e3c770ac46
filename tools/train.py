"""Train the model of a config, stitched or not.

$ python tools/train.py configs/camvid/stitched-s6-l12_setr-naive_b8-1k_camvid-240x320.py
$ torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch
"""

from mmsnnet.building import build_runner
from mmsnnet.cli import add_progress_option, command, load_runner_config, runner_parser
from mmsnnet.engine import check_data_folders, check_rules


@command
def main() -> None:
    parser = runner_parser(__doc__)
    add_progress_option(parser)
    parser.add_argument('--resume', action='store_true', help='resume from the latest checkpoint in the work directory')
    parser.add_argument('--amp', action='store_true', help='train in automatic mixed precision')
    args = parser.parse_args()
    cfg = load_runner_config(args)
    check_data_folders(cfg)
    check_rules(cfg)
    cfg.resume = args.resume or cfg.get('resume', False)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    build_runner(cfg).train()


if __name__ == '__main__':
    main()
