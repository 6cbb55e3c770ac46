"""A progress bar for people who watch a run."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from mmsnnet.registry import HOOKS, register


@register(HOOKS)
class ProgressBarHook(Hook):
    """Shows how far training, validation or testing is, and the time left."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def before_train(self, runner: Runner) -> None:
        self._open('train', runner.max_iters, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        self._bar.set_postfix(loss=f'{float(outputs["loss"]):.3f}', refresh=False)
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
