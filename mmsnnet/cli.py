"""What the command lines under ``tools/`` share."""

import argparse
import functools
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction

from mmsnnet.building import forget_pretrained
from mmsnnet.errors import UserError
from mmsnnet.evaluation import DTYPES
from mmsnnet.files import check_file
from mmsnnet.settings import is_named
from mmsnnet.stitching.selection import SELECTIONS, parse_selection
from mmsnnet.terminal import quiet


def config_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of the arguments that all tools over a config take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, e.g. train_dataloader.batch_size=4 model.backbone.lora_rank=8',
    )
    return parser


def runner_parser(description: str | None, work_dir: str = 'work_dirs/<name of the config>') -> argparse.ArgumentParser:
    """``config_parser`` with the usual arguments of tools that run a runner.

    Args:
        work_dir: what to name as the default folder of logs.
    """
    parser = config_parser(description)
    parser.add_argument('--work-dir', help=f'folder of logs and checkpoints (default: {work_dir})')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    # torch.distributed passes it in either spelling.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def add_progress_option(parser: argparse.ArgumentParser) -> None:
    """Let a tool show progress bars, as ``load_runner_config`` sets them up."""
    parser.add_argument('--progress', action='store_true', help='show progress bars instead of log lines')


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Let a tool evaluate a checkpoint, as ``enter_evaluation`` reads it."""
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--routes',
        nargs='+',
        metavar='ROUTE',
        help=f"{SELECTIONS}; a single id as 'id:17' (default: as the config says)",
    )
    parser.add_argument(
        '--dtype', choices=DTYPES, help='precision, mixed below float32 (default: as the config says, else float32)'
    )


def load_config(args: argparse.Namespace) -> Config:
    """The config that the arguments of ``config_parser`` name.

    Raises:
        FileNotFoundError: no such file.
    """
    cfg = Config.fromfile(check_file(args.config, 'config'))
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    return cfg


def load_runner_config(args: argparse.Namespace) -> Config:
    """The config that the arguments of ``runner_parser`` name and change."""
    cfg = load_config(args)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(args.config).stem))
    if getattr(args, 'progress', False):
        cfg.log_level = 'WARNING'
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), {'type': 'mmsnnet.ProgressBarHook'}]
    return cfg


def enter_evaluation(cfg: Config, args: argparse.Namespace) -> None:
    """Enter what the arguments of ``add_evaluation_options`` say into the config; what they do not say stays.

    Raises:
        FileNotFoundError: no such checkpoint.
        UserError: routes of a model that is not stitched; nothing to evaluate on.
    """
    if not cfg.get('test_dataloader') or not cfg.get('test_cfg'):
        raise UserError('the config has nothing to evaluate on: set test_dataloader, test_evaluator and test_cfg')
    cfg.load_from = check_file(args.checkpoint, 'checkpoint')
    forget_pretrained(cfg.model)
    is_stitched = 'anchors' in cfg.model.get('backbone', {})
    if args.routes and not is_stitched:
        raise UserError('--routes needs a stitched model, and this config has none')
    if args.routes:
        make_stitched(cfg.test_cfg)
        cfg.test_cfg.routes = parse_selection(args.routes)
    if args.dtype and is_stitch_loop(cfg.test_cfg):
        cfg.test_cfg.dtype = args.dtype
        cfg.test_cfg.pop('fp16', None)


def is_stitch_loop(test_cfg: ConfigDict) -> bool:
    """Whether a config's test loop evaluates routes. Without a type it is MMEngine's ``TestLoop``."""
    return is_named(test_cfg, 'StitchTestLoop')


def make_stitched(test_cfg: ConfigDict) -> None:
    """Let a config's test loop evaluate routes; its other settings stay."""
    if not is_stitch_loop(test_cfg):
        test_cfg.type = 'mmsnnet.StitchTestLoop'


def command(main: Callable[..., None]) -> Callable[..., None]:
    """A ``main`` that prints a user error as one line, and shows the traceback of any other error.

    Ranks that have succeeded end together.
    """

    @functools.wraps(main)
    def wrapped(*args: Any) -> None:
        try:
            with quiet():
                main(*args)
            _end_process_group()
        except KeyboardInterrupt:
            sys.exit('interrupted')
        except (UserError, OSError) as error:
            sys.exit(f'error: {_own_message(error)}')

    return wrapped


def _own_message(error: Exception) -> str:
    """What an error says. PyTorch puts the whole traceback before it if it comes from a data loader's worker."""
    message = str(error)
    is_from_worker = message.startswith('Caught ') and 'Traceback' in message
    return message.strip().rpartition('\n')[2].partition(': ')[2] if is_from_worker else message


def _end_process_group() -> None:
    """End the process group, if any, once every rank is done with it.

    A rank that exits earlier takes its connections away from others. Threads of a group that still runs while the
    interpreter shuts down may abort the process. After an error nothing is waited for: launchers end the other ranks.
    """
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        # A group's threads run as long as anything refers to it, and a runner's model does, in a circle of references.
        gc.collect()
        torch.distributed.destroy_process_group()
