"""Attention with decomposed relative positions that never holds a bias of all pairs of tokens."""

import torch
import torch.nn.functional as F
from timm.models.vision_transformer_sam import Attention
from torch import Tensor

from mmsnnet.models.constants import ConstantCache

# Fused kernels on GPUs want heads of multiples of this.
_ALIGNMENT = 8
_CONSTANTS = ConstantCache(max_mb=64)


class FusedAttention(Attention):
    """Attention of timm's ``VisionTransformerSAM`` in a form that PyTorch's fused kernels run.

    timm passes a bias (B * heads, N, N) to PyTorch, which then stores all of it and cannot use a fused kernel. A bias
    that depends on row and column separately is itself a product: a query's bias for each row and column, times an
    indicator of each key's row and column. These two factors are appended to queries and keys. Their product then needs
    no bias, and is fused in training, too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) -> (B, h, w, C)."""
        # Costs are those of the published attention, without the appended channels. Counting them also takes its
        # memory: 1 GiB for the global blocks of a ViT-L at 1024x1024.
        if self.rope is not None or torch.jit.is_tracing():
            return super().forward(x)
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.use_rel_pos:
            q, k, v = self._with_positions(q, k, v, (height, width))
        # The scale of the heads without the appended channels.
        attended = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0, scale=self.scale
        )
        attended = attended[..., : self.head_dim].transpose(1, 2).reshape(batch, height, width, -1)
        return self.proj_drop(self.proj(attended))

    def _with_positions(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, C), longer by one channel for each row and column."""
        q = q.unflatten(2, grid)
        rows = torch.einsum('bnhwc,hck->bnhwk', q, _positions_seen(self.rel_pos_h, grid[0]))
        columns = torch.einsum('bnhwc,wck->bnhwk', q, _positions_seen(self.rel_pos_w, grid[1]))
        padding = -(self.head_dim + sum(grid)) % _ALIGNMENT
        zeros = q.new_zeros(())
        q = torch.cat([q, rows, columns, zeros.expand(*q.shape[:4], padding)], dim=4).flatten(2, 3)
        places = _places(grid, padding, self.scale, k)
        k = torch.cat([k, places.expand(*k.shape[:3], -1)], dim=3)
        return q, k, torch.cat([v, zeros.expand(*v.shape[:3], sum(grid) + padding)], dim=3)


def _positions_seen(table: Tensor, size: int) -> Tensor:
    """Relative positions (size, C, size) of all keys, the last one first, as seen by each query along one side.

    Args:
        table: (L, C), resized linearly to the 2 * size - 1 relative positions there are.
    """
    length = 2 * size - 1
    if len(table) != length:
        table = F.interpolate(table.T[None], size=length, mode='linear')[0].T
    # Query q sees key k at q - k + size - 1. Keys in reverse order make that a sliding window: a view, without indices,
    # which timm builds on the CPU.
    return table.unfold(0, size, 1)


def _places(grid: tuple[int, int], padding: int, scale: float, like: Tensor) -> Tensor:
    """(h * w, h + w + padding): marks each token's row and column, the last ones first.

    Marks are 1 / scale, since positions are added to products that have been scaled already.
    """

    def make() -> Tensor:
        height, width = grid
        rows, columns = (torch.eye(side, dtype=like.dtype, device=like.device).flip(0) / scale for side in grid)
        places = torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=1)
        return F.pad(places, (0, padding))

    return _CONSTANTS.get((grid, padding, scale), like, make)
