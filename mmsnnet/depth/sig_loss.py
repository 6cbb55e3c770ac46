"""``SigLoss``: errors of depth in a logarithmic scale, with less weight on a common factor."""

import torch
from torch import Tensor, nn

from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_int, check_number

# Of the mean's square, beside the variance.
MEAN_WEIGHT = 0.15
# Metres added to both depths, so that small ones do not dominate.
EPS = 1e-3


@register(MODELS)
class SigLoss(nn.Module):
    """The scale-invariant loss of AdaBins, as in the Monocular-Depth-Estimation-Toolbox (zhyever) and DINOv2.

    With ``g = log(p + 0.001) - log(t + 0.001)`` of all valid pixels of a batch, it is
    ``sqrt(var(g) + 0.15 mean(g)^2)``, where ``var`` is the unbiased variance of ``torch.var``. In the first iterations
    of training it leaves the variance out. A pixel is valid where its true depth is above 0.

    A checkpoint holds how many iterations have been trained, so a resumed run, or one that starts from trained weights,
    does not warm up again.

    Args:
        warm_up_iters: training iterations without the variance. A head counts those in which it is trained.
        max_depth: true depth beyond it, in metres, is not valid; None: no limit. MMSegmentation fills what padding and
            rotation add to a depth map with 255: set it, or let them fill in 0.
        loss_weight: factor of the loss.
        loss_name: its name in logs.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        warm_up_iters: int = 100,
        max_depth: float | None = None,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_sig',
    ) -> None:
        super().__init__()
        self.warm_up_iters = check_int('warm_up_iters', warm_up_iters, 0)
        self.max_depth = None if max_depth is None else check_number('max_depth', max_depth, above=0)
        self.loss_weight = check_number('loss_weight', loss_weight)
        self.loss_name = loss_name
        self.register_buffer('iterations', torch.zeros((), dtype=torch.int64))

    def forward(self, depth: Tensor, truth: Tensor) -> Tensor:
        """The loss of predicted and true depth of one shape, in metres; 0 without any valid pixel.

        Nothing here waits for a GPU.
        """
        valid = truth > 0
        if self.max_depth is not None:
            valid = valid & (truth <= self.max_depth)
        errors = torch.where(valid, torch.log(depth.float() + EPS) - torch.log(truth.float() + EPS), 0)
        count = valid.sum()
        mean = errors.sum() / count.clamp(min=1)
        variance = torch.where(valid, errors - mean, 0).square().sum() / (count - 1).clamp(min=1)
        if self.training:
            variance = torch.where(self.iterations < self.warm_up_iters, 0, variance)
            self.iterations += 1
        return self.loss_weight * _sqrt(variance + MEAN_WEIGHT * mean.square())


def _sqrt(value: Tensor) -> Tensor:
    """The square root, whose gradient at 0 is 0, not infinite."""
    is_positive = value > 0
    return torch.where(is_positive, torch.where(is_positive, value, 1).sqrt(), 0)
