"""DINOv3 and EVA-02: rotary position embeddings."""

import itertools
from collections.abc import Callable, Collection

import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingMixed, get_mixed_freqs, get_mixed_grid
from timm.models.eva import Eva
from torch import Tensor, nn

from mmsnnet.models.anchors.plain import Anchor, Grid
from mmsnnet.models.constants import ConstantCache


class EvaAnchor(Anchor):
    """A timm ``Eva``: DINOv3 and EVA-02, whose blocks rotate queries and keys by position."""

    family = Eva

    def __init__(self, vit: Eva, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        self.rope = vit.rope
        self.rope_mixed: bool = vit.rope_mixed
        self._constants = ConstantCache(max_mb=64)
        # Some of timm's embeddings keep the angles of one grid and then ignore the one they are asked for.
        if hasattr(self.rope, '_use_cached_embed'):
            self.rope._use_cached_embed = False

    @property
    def position_module(self) -> nn.Module | None:
        return self.rope

    def strip(self, blocks: Collection[int], embeds: bool, is_exit: bool) -> None:
        super().strip(blocks, embeds, is_exit)
        if not blocks:
            self.rope = None

    def position(self, grid: Grid) -> 'Tensor | _MixedRope | None':
        if self.rope is None:
            return None
        # Embeddings with random shifts and scales are drawn anew in training.
        if self.rope.training and getattr(self.rope, 'aug_active', False):
            return self.rope.get_embed(shape=list(grid))
        if self.rope_mixed:
            return _MixedRope(self.rope, self._constant(grid, lambda: _mixed_coordinates(self.rope, grid)))
        return self._constant(grid, lambda: self.rope.get_embed(shape=list(grid)))

    def run_block(
        self, tokens: Tensor, block: nn.Module, index: int, grid: Grid, position: 'Tensor | _MixedRope | None'
    ) -> Tensor:
        return block(tokens, rope=position[index] if self.rope_mixed else position)

    def _constant(self, grid: Grid, make: Callable[[], Tensor]) -> Tensor:
        like = next(itertools.chain(self.rope.buffers(), self.rope.parameters()))
        return self._constants.get(grid, like, make)


class _MixedRope:
    """Rotary embeddings that are learnt per block. Each is computed when its block asks for it."""

    def __init__(self, rope: RotaryEmbeddingMixed, coordinates: Tensor) -> None:
        self.frequencies = rope.freqs
        self.coordinates = coordinates

    def __getitem__(self, block: int) -> Tensor:
        """(heads, h * w, 2 * C) of one block, for heads of C channels."""
        return get_mixed_freqs(self.frequencies[:, block : block + 1], *self.coordinates)[0]


def _mixed_coordinates(rope: RotaryEmbeddingMixed, grid: Grid) -> Tensor:
    """x and y (2, h * w) of all patches."""
    return torch.stack(get_mixed_grid(list(grid), grid_indexing=rope.grid_indexing, device=rope.freqs.device))
