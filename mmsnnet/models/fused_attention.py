"""Attention with decomposed relative positions that never holds a bias of all pairs of tokens."""

import torch
import torch.nn.functional as F
from timm.models.vision_transformer_sam import Attention, get_rel_pos
from torch import Tensor

# Fused kernels on GPUs want heads of multiples of this.
_ALIGNMENT = 8


class FusedAttention(Attention):
    """timm's attention of ``VisionTransformerSAM``, computed otherwise.

    timm hands tokens of three dimensions and a bias (B * heads, N, N) to PyTorch, which then takes neither its fused
    kernel nor less memory. But a bias that depends on row and column separately is itself a product: of a query's
    biases for each row and column, and of what tells in which row and column a key lies. Beside queries and keys,
    these leave one product without a bias, which is fused in training too.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) -> (B, h, w, C)."""
        # Costs are those of the attention as published, which has no longer queries and keys. Counting them takes its
        # memory too: 1 GiB for the global blocks of a ViT-L at 1024x1024.
        if self.rope is not None or torch.jit.is_tracing():
            return super().forward(x)
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.use_rel_pos:
            q, k, v = self._with_positions(q, k, v, (height, width))
        # The scale of heads as wide as they were.
        attended = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0, scale=self.scale
        )
        attended = attended[..., : self.head_dim].transpose(1, 2).reshape(batch, height, width, -1)
        return self.proj_drop(self.proj(attended))

    def _with_positions(self, q: Tensor, k: Tensor, v: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, N, C), longer by one channel for each row and column."""
        height, width = grid
        # Positions are added to products that have been scaled already.
        rel_pos_h = get_rel_pos(height, height, self.rel_pos_h / self.scale).to(q.dtype)
        rel_pos_w = get_rel_pos(width, width, self.rel_pos_w / self.scale).to(q.dtype)
        rows = torch.einsum('bnhwc,hkc->bnhwk', q.unflatten(2, grid), rel_pos_h)
        columns = torch.einsum('bnhwc,wkc->bnhwk', q.unflatten(2, grid), rel_pos_w)
        added = height + width
        padding = -(self.head_dim + added) % _ALIGNMENT
        q = F.pad(torch.cat([q, rows.flatten(2, 3), columns.flatten(2, 3)], dim=3), (0, padding))
        k = torch.cat([k, _row_and_column(grid, padding, k).expand(*k.shape[:3], -1)], dim=3)
        return q, k, F.pad(v, (0, added + padding))


def _row_and_column(grid: tuple[int, int], padding: int, like: Tensor) -> Tensor:
    """(h * w, h + w + padding): a one in each token's row and column."""
    height, width = grid
    rows = torch.eye(height, dtype=like.dtype, device=like.device).repeat_interleave(width, 0)
    columns = torch.eye(width, dtype=like.dtype, device=like.device).repeat(height, 1)
    return F.pad(torch.cat([rows, columns], dim=1), (0, padding))
