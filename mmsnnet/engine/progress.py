"""Progress bars for people who watch a run."""

from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmsnnet.registry import HOOKS, register


class RoutesProgress:
    """Reports how far an evaluation of many routes is: one line for each route, once its metrics are known.

    Args:
        write: takes the lines.
        bar: also show a bar of the steps, one for each route on each batch.
    """

    def __init__(self, write: Callable[[str], None], bar: bool = False) -> None:
        self.write = tqdm.write if bar else write
        self._show_bar = bar
        self._bar: tqdm | None = None

    def start(self, steps: int, done: int) -> None:
        if self._show_bar:
            self._bar = tqdm(
                desc='routes x batches', total=steps, initial=done, disable=not is_main_process(), dynamic_ncols=True
            )

    def step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def finish_steps(self) -> None:
        if self._bar is not None:
            self._bar.close()


@register(HOOKS)
class ProgressBarHook(Hook):
    """Shows how far training, validation or testing is, and the time left."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._training_bar: tqdm | None = None

    def before_train(self, runner: Runner) -> None:
        self._open('train', runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        loss = torch.as_tensor(outputs['loss']).detach().item()
        self._bar.set_postfix(loss=f'{loss:.3f}', refresh=False)
        self._bar.update()

    def after_train(self, runner: Runner) -> None:
        self._bar.close()

    def before_val_epoch(self, runner: Runner) -> None:
        self._training_bar = self._bar
        self._open('validate', len(runner.val_dataloader))

    def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
        self._bar.update()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._bar.close()
        self._bar = self._training_bar

    def before_test_epoch(self, runner: Runner) -> None:
        self._open('test', len(runner.test_dataloader))

    def after_test_iter(self, *args: Any, **kwargs: Any) -> None:
        self._bar.update()

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._bar.close()

    def _open(self, what: str, total: int, initial: int = 0) -> None:
        self._bar = tqdm(desc=what, total=total, initial=initial, disable=not is_main_process(), dynamic_ncols=True)
