"""Tunings: what routes with a switch train beside anchors that are finished and stay as they are.

A tuning holds a stand-in for each block: the frozen block with low-rank updates of its matrices (*adapters*; LoRA,
Hu et al. 2021), or a copy of it that trains. An anchor's own route runs the anchor's blocks and never sees a tuning.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsnnet.models.anchors import Anchor
from mmsnnet.models.stitching_layer import StitchingLayer
from mmsnnet.stitching import Layer

WAYS = ('adapters', 'copies')


class Tuning(nn.Module):
    """Stand-ins for some blocks of the anchors, and stitching layers if the tuning has its own.

    Args:
        anchors: finished ones.
        blocks: (anchor, block) of those that the tuning's routes run.
        way: one of ``WAYS``.
        rank: of adapters.
        layers: stitching layers of a route of its own, by key.

    Attributes:
        stand_ins: by anchor and by index of the block.
    """

    def __init__(
        self,
        anchors: nn.ModuleList,
        blocks: Iterable[tuple[int, int]],
        way: str,
        rank: int,
        layers: dict[Layer, StitchingLayer],
    ) -> None:
        super().__init__()
        self.stand_ins = nn.ModuleDict({str(anchor): nn.ModuleDict() for anchor in range(len(anchors))})
        for anchor, index in sorted(set(blocks)):
            block = anchors[anchor].blocks[index]
            stand_in = AdaptedBlock(block, rank) if way == 'adapters' else copy.deepcopy(block)
            self.stand_ins[str(anchor)][str(index)] = stand_in.requires_grad_()
        self.layers = nn.ModuleDict({_layer_name(key): layer for key, layer in layers.items()})

    def parts(self) -> Iterator[nn.Module]:
        """What runs as a whole: copies of blocks, and stitching layers. Adapters run inside of the anchors' blocks."""
        stand_ins = (stand_in for by_index in self.stand_ins.values() for stand_in in by_index.values())
        yield from (stand_in for stand_in in stand_ins if not isinstance(stand_in, AdaptedBlock))
        yield from self.layers.values()

    def layer(self, key: Layer) -> StitchingLayer:
        """A stitching layer of the tuning's own."""
        return self.layers[_layer_name(key)]

    def restart_layers(self, shared: Callable[[Layer], StitchingLayer]) -> None:
        """Let own stitching layers start from those that other routes share."""
        for name, layer in self.layers.items():
            direction, pair, k = name.split('_')
            layer.load_state_dict(shared(Layer(direction, int(pair), int(k))).state_dict())

    @torch.no_grad()
    def restart(self, anchors: Iterable[Anchor]) -> None:
        """Let copies start from the anchors' present weights. Fresh adapters change nothing, so they need no start."""
        for anchor, stand_ins in zip(anchors, self.stand_ins.values(), strict=True):
            for index, stand_in in stand_ins.items():
                if not isinstance(stand_in, AdaptedBlock):
                    stand_in.load_state_dict(anchor.blocks[int(index)].state_dict())


class AdaptedBlock(nn.Module):
    """An anchor's block, run with low-rank updates of all its matrices. Only the updates are parameters of this module.

    Args:
        block: of a timm ViT; its linear layers become ``AdaptableLinear``, which alone compute what they did.
        rank: of the updates.
    """

    def __init__(self, block: nn.Module, rank: int) -> None:
        super().__init__()
        # In tuples, block and layers are not registered: their weights belong to the anchor.
        self._block = (block,)
        self._linears = tuple(_linear_layers(block))
        self.updates = nn.ModuleDict()
        for name, linear in self._linears:
            linear.__class__ = AdaptableLinear
            self.updates[name.replace('.', '_')] = LowRankUpdate(linear.in_features, linear.out_features, rank)

    @property
    def attn(self) -> nn.Module:
        """The block's attention, whose position tables the anchor reads."""
        return self._block[0].attn

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Tokens, and what else the block takes -> tokens."""
        with self._switched_on():
            return self._block[0](*args, **kwargs)

    @torch.no_grad()
    def fold(self) -> None:
        """Keep each matrix with its update."""
        for name, linear in self._linears:
            update = self._update(name)
            update.folded = linear.weight + update.matrix(linear.weight.dtype)

    def unfold(self) -> None:
        for update in self.updates.values():
            update.folded = None

    @torch.no_grad()
    def folded_state_dict(self) -> dict[str, Tensor]:
        """The block's weights with the updates in them."""
        weights = dict(self._block[0].state_dict())
        for name, _ in self._linears:
            weight, update = weights[f'{name}.weight'], self._update(name)
            weights[f'{name}.weight'] = (weight.double() + update.matrix(torch.float64)).to(weight.dtype)
        return weights

    def _update(self, name: str) -> 'LowRankUpdate':
        return self.updates[name.replace('.', '_')]

    @contextmanager
    def _switched_on(self) -> Iterator[None]:
        block = self._block[0]
        # Some attention adds its bias inside of a matrix product that bypasses the layer, unless it is told not to.
        attention = getattr(block, 'attn', None)
        separate = getattr(attention, 'qkv_bias_separate', None)
        if separate is not None:
            attention.qkv_bias_separate = True
        for name, linear in self._linears:
            linear.update = (self._update(name),)
        # A finished anchor stays in evaluation mode. Its drop path and dropout are for what trains.
        if self.training:
            block.train()
        try:
            yield
        finally:
            if self.training:
                block.eval()
            for _, linear in self._linears:
                linear.update = ()
            if separate is not None:
                attention.qkv_bias_separate = separate


class AdaptableLinear(nn.Linear):
    """``nn.Linear``, which adds an update while it has one. Made from a linear layer by assigning its class."""

    # A tuple, so that the update is no submodule: it belongs to a tuning.
    update: tuple['LowRankUpdate', ...] = ()

    def forward(self, tokens: Tensor) -> Tensor:
        if not self.update:
            return F.linear(tokens, self.weight, self.bias)
        (update,) = self.update
        if torch.is_grad_enabled():
            return F.linear(tokens, self.weight, self.bias) + update(tokens)
        # One product less over all tokens.
        weight = self.weight + update.matrix(self.weight.dtype) if update.folded is None else update.folded
        return F.linear(tokens, weight, self.bias)


class LowRankUpdate(nn.Module):
    """``x A^T B^T``: nothing as long as B is zero.

    Args:
        in_dim, out_dim: of the matrix that it updates.
        rank: of the update.

    Attributes:
        folded: the matrix that it updates with the update in it, while that is kept; see ``folded_updates``.
    """

    def __init__(self, in_dim: int, out_dim: int, rank: int) -> None:
        super().__init__()
        self.folded: Tensor | None = None
        self.lora_a = nn.Parameter(torch.empty(rank, in_dim))
        self.lora_b = nn.Parameter(torch.zeros(out_dim, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (..., in_dim) -> (..., out_dim)."""
        return F.linear(F.linear(tokens, self.lora_a), self.lora_b)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """B A (out_dim, in_dim)."""
        return self.lora_b.to(dtype) @ self.lora_a.to(dtype)


@contextmanager
def folded_updates(model: nn.Module) -> Iterator[None]:
    """Let adapted blocks run as fast as when exported: each matrix is computed with its update once, and kept.

    Without gradients. Outputs stay the same to the last bit. It takes memory for one more set of the blocks' matrices.
    """
    blocks = [module for module in model.modules() if isinstance(module, AdaptedBlock)]
    for block in blocks:
        block.fold()
    try:
        yield
    finally:
        for block in blocks:
            block.unfold()


def block_weights(block: nn.Module) -> dict[str, Tensor]:
    """Weights of a block or its stand-in, under the names of the block, with updates folded in."""
    return block.folded_state_dict() if isinstance(block, AdaptedBlock) else block.state_dict()


def _linear_layers(block: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, module) for name, module in block.named_modules() if isinstance(module, nn.Linear))


def _layer_name(key: Layer) -> str:
    return f'{key.direction}_{key.pair}_{key.k}'
