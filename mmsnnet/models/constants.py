"""Tensors that depend on a grid alone: made once, then shared by all blocks and passes."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class ConstantCache:
    """Keeps the most recently used tensors.

    Making a constant in every block costs several operations. If it is made on the CPU, each copy to the device also
    waits until the device has finished its work.

    Args:
        max_mb: MiB that the kept tensors take at most. The newest one is kept even if it alone takes more.
    """

    def __init__(self, max_mb: float) -> None:
        self.max_mb = max_mb
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    @property
    def size_mb(self) -> float:
        """MiB of all tensors kept."""
        return sum(tensor.nbytes for tensor in self._kept.values()) / 2**20

    def get(self, name: Hashable, like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """The constant of this name, with the dtype and on the device of ``like``; ``make`` makes it if it is not kept.

        ``make`` must not use parameters.
        """
        # A compiled or exported program makes its own constants.
        if torch.compiler.is_compiling():
            return make()
        key = (name, like.dtype, like.device)
        if key not in self._kept:
            # A tensor made in inference mode could not serve a later training.
            with torch.inference_mode(False):
                constant = make()
            if not self.can_keep(constant):
                return constant
            self._kept[key] = constant
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self.size_mb > self.max_mb:
            self._kept.popitem(last=False)
        return self._kept[key]

    def can_keep(self, constant: Tensor) -> bool:
        """Whether a tensor holds values. The fake ones of a tracer do not, and must not outlive it."""
        return type(constant) is Tensor
