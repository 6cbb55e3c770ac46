"""The affine map at a switch between two anchors (SN-Netv2, section 3.3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StitchingLayer(nn.Module):
    """``x W^T + b + (x A^T) B^T / r``: W from least squares and frozen, b, A and B trained.

    The update is never folded into W here: ``train()`` and ``eval()`` change no weight.

    Args:
        in_dim, out_dim: widths of the anchors left and entered.
        lora_rank: rank r of the update; 0 trains the full W instead.
    """

    def __init__(self, in_dim: int, out_dim: int, lora_rank: int) -> None:
        super().__init__()
        self.lora_rank = lora_rank
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim), requires_grad=lora_rank == 0)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if lora_rank:
            self.lora_a = nn.Parameter(torch.empty(lora_rank, in_dim))
            self.lora_b = nn.Parameter(torch.zeros(out_dim, lora_rank))
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, in_dim) -> (B, N, out_dim)."""
        mapped = F.linear(tokens, self.weight, self.bias)
        if self.lora_rank:
            # The narrow factor is divided, not the product: one pass less over the wide tokens.
            mapped = mapped + F.linear(F.linear(tokens, self.lora_a) / self.lora_rank, self.lora_b)
        return mapped

    @torch.no_grad()
    def set_affine(self, weight: Tensor, bias: Tensor) -> None:
        """Start from a weight (out_dim, in_dim) and a bias (out_dim,)."""
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    @torch.no_grad()
    def folded_weight(self) -> Tensor:
        """W + B A / r (out_dim, in_dim): one weight for the whole map."""
        if not self.lora_rank:
            return self.weight.clone()
        update = self.lora_b.double() @ self.lora_a.double() / self.lora_rank
        return (self.weight.double() + update).to(self.weight.dtype)

    def extra_repr(self) -> str:
        return f'{self.weight.shape[1]}, {self.weight.shape[0]}, lora_rank={self.lora_rank}'
