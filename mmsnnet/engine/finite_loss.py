"""A loss that is not finite must not reach the weights."""

from collections.abc import Callable
from logging import Logger
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.optim import Optimizer

from mmsnnet.errors import UserError

ACTIONS = ('stop', 'skip')


class FiniteLossGuard:
    """Stops training at a loss that is not finite, or skips that optimizer step, on all ranks alike.

    The loss is looked at when the optimizer is about to step: asking a GPU earlier would make it wait.

    Args:
        model: an MMEngine model, unwrapped.
        action: ``'stop'`` or ``'skip'``.
        where: tells iteration and route.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, action: str, where: Callable[[], str], logger: Logger
    ) -> None:
        self._model = model
        self._action = action
        self._where = where
        self._logger = logger
        self._is_bad: Tensor | None = None
        self._parse_losses = model.parse_losses
        model.parse_losses = self._note
        self._handle = optimizer.register_step_pre_hook(self._before_step)

    def remove(self) -> None:
        """Leave model and optimizer as they were."""
        del self._model.parse_losses
        self._handle.remove()

    def check(self) -> bool:
        """Whether all losses since the last call were finite.

        Raises:
            RuntimeError: no, and training is to stop.
        """
        is_bad, self._is_bad = self._is_bad, None
        if is_bad is None or not bool(is_bad):
            return True
        if self._action == 'stop':
            raise UserError(
                f'the loss is not finite at {self._where()}: go on from the last checkpoint with a lower learning rate '
                "or clip_grad, or set on_nonfinite_loss='skip' of the StitchSamplingHook"
            )
        self._check_statistics()
        self._logger.warning(f'the loss is not finite at {self._where()}: no weight changes')
        return False

    def _note(self, losses: dict) -> tuple[Tensor, dict]:
        loss, log_vars = self._parse_losses(losses)
        is_bad = (~loss.detach().isfinite()).float()
        all_reduce(is_bad, op='max')
        self._is_bad = is_bad if self._is_bad is None else torch.maximum(self._is_bad, is_bad)
        return loss, log_vars

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        if not self.check():
            # What has no gradient does not change, by momentum or weight decay either.
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.grad = None

    def _check_statistics(self) -> None:
        """Running statistics have seen the batch already."""
        for name, buffer in self._model.named_buffers():
            if buffer.is_floating_point() and not buffer.isfinite().all():
                raise UserError(
                    f'the loss is not finite at {self._where()}, and neither is {name} any more: '
                    'go on from the last checkpoint'
                )
