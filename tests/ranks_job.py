"""Train configs one after the other in the ranks of one launch, and leave what every rank has seen and learnt.

$ python -m torch.distributed.run --nproc_per_node 2 tests/ranks_job.py CONFIG...
"""

import os
import sys
from pathlib import Path

import quick_mmengine  # noqa: F401
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsnnet.building import build_runner
from mmsnnet.cli import command
from mmsnnet.models import find_backbone


class Witness(Hook):
    """Keeps the weights before training, and the batches and routes of all iterations.

    Makes the second loss NaN on the rank that a config names as ``spoiled_rank``.
    """

    # After the hook that solves stitching layers and draws routes.
    priority = 'LOW'

    def __init__(self) -> None:
        self.seen = {'batches': [], 'routes': []}

    def before_train(self, runner: Runner) -> None:
        self.seen['start'] = state_of(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict) -> None:
        if runner.iter == 1 and runner.cfg.get('spoiled_rank') == get_rank():
            runner.model.module.decode_head.loss_decode.loss_weight = float('nan')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict) -> None:
        self.seen['batches'].append(data_batch)
        self.seen['routes'].append(find_backbone(runner.model).route.id)


def state_of(runner: Runner) -> dict:
    return {key.removeprefix('module.'): value.clone() for key, value in runner.model.state_dict().items()}


@command
def main() -> None:
    for path in sys.argv[1:]:
        cfg = Config.fromfile(path)
        witness = Witness()
        runner = build_runner(cfg)
        runner.register_hook(witness)
        runner.train()
        end = {'end': state_of(runner), 'trained_routes': find_backbone(runner.model).trained_routes}
        torch.save({**witness.seen, **end}, Path(cfg.work_dir, f'rank{get_rank()}.pth'))


def threads() -> list[str]:
    """Names of this process's threads."""
    return [Path(task, 'comm').read_text().strip() for task in Path('/proc/self/task').iterdir()]


if __name__ == '__main__':
    main()
    Path(sys.argv[1]).with_name(f'threads_of_rank{os.environ["RANK"]}').write_text('\n'.join(threads()))
