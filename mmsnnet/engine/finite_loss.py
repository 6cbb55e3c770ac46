"""A loss that is not finite must not reach the weights."""

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mmsnnet.engine.runners import unwrapped_model
from mmsnnet.errors import UserError
from mmsnnet.models import find_backbone

ACTIONS = ('stop', 'skip')

# In a row, under a loss scale that falls: as many as take PyTorch's first one, 65536, to 1.
TOLERATED_STEPS = 16


class FiniteLossGuard:
    """Stops training at a loss that is not finite, or skips that optimizer step, on all ranks alike.

    The loss is looked at when the optimizer is about to step: asking a GPU earlier would make it wait. Where half
    precision trains with a dynamic loss scale, which falls at each such step, ``'stop'`` first skips
    ``TOLERATED_STEPS`` in a row.

    Args:
        runner: that trains a stitched model.
        action: ``'stop'`` or ``'skip'``.
    """

    def __init__(self, runner: Runner, action: str) -> None:
        self._runner = runner
        self._model = unwrapped_model(runner)
        self._action = action
        self._tolerated = TOLERATED_STEPS if _lowers_its_loss_scale(runner.optim_wrapper) else 0
        self._bad_steps = 0
        self._is_bad: Tensor | None = None
        self._parse_losses = self._model.parse_losses
        self._model.parse_losses = self._note
        self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step)

    def remove(self) -> None:
        """Leave model and optimizer as they were."""
        del self._model.parse_losses
        self._handle.remove()

    def check(self) -> bool:
        """Whether all losses since the last call were finite.

        Raises:
            UserError: no, and training is to stop.
        """
        is_bad, self._is_bad = self._is_bad, None
        if is_bad is None:
            return True
        self._bad_steps = self._bad_steps + 1 if bool(is_bad) else 0
        if not self._bad_steps:
            return True
        if self._action == 'stop' and self._bad_steps > self._tolerated:
            in_a_row = f', in {self._bad_steps} optimizer steps in a row' if self._tolerated else ''
            raise UserError(
                f'the loss is not finite at {self._where()}{in_a_row}: resume from the last checkpoint with a lower '
                "learning rate or clip_grad, or set on_nonfinite_loss='skip' of the StitchSamplingHook"
            )
        self._check_statistics()
        self._runner.logger.warning(f'the loss is not finite at {self._where()}: no weight changes')
        return False

    def _where(self) -> str:
        return f'iteration {self._runner.iter + 1}, route {find_backbone(self._model).route}'

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
        """Refuse to continue with running statistics that are not finite: they have seen the batch already."""
        for name, buffer in self._model.named_buffers():
            if buffer.is_floating_point() and not buffer.isfinite().all():
                raise UserError(
                    f'the loss is not finite at {self._where()}, and neither is {name}: resume from the last checkpoint'
                )


def _lowers_its_loss_scale(optim_wrapper: OptimWrapper) -> bool:
    """Whether a non-finite loss makes the loss scale fall: in float16, unless the scale is fixed."""
    is_dynamic = hasattr(optim_wrapper, 'loss_scaler') and optim_wrapper._scale_update_param is None
    return is_dynamic and optim_wrapper.cast_dtype in (None, torch.float16)
