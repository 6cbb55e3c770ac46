"""BEiT: relative position biases."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from timm.models.beit import Beit
from torch import Tensor, nn

from mmsnnet.models.anchors.plain import Anchor, Grid
from mmsnnet.models.constants import ConstantCache

# Tables of relative positions: one takes 256 MiB at 1024x2048 with patches of 16.
_INDICES = ConstantCache(max_mb=320)


class BeitAnchor(Anchor):
    """A timm ``Beit``, whose attention adds a relative position bias, per block or shared by all."""

    family = Beit

    def __init__(self, vit: Beit, **kwargs) -> None:
        super().__init__(vit, **kwargs)
        self.rel_pos_bias = vit.rel_pos_bias
        for block in self.blocks:
            # timm's attention builds its bias for one fixed grid. It gets ours, for any grid, as the shared bias; its
            # own, which it would add, becomes nothing.
            block.attn._get_rel_pos_bias = _no_bias

    @property
    def position_module(self) -> nn.Module | None:
        return self.rel_pos_bias

    def strip(self, blocks: Collection[int], embeds: bool, is_exit: bool) -> None:
        super().strip(blocks, embeds, is_exit)
        if not blocks:
            self.rel_pos_bias = None

    def position(self, grid: Grid) -> Tensor | None:
        return None if self.rel_pos_bias is None else self._bias(self.rel_pos_bias.relative_position_bias_table, grid)

    def run_block(self, tokens: Tensor, block: nn.Module, index: int, grid: Grid, position: Tensor | None) -> Tensor:
        table = block.attn.relative_position_bias_table
        if table is not None:
            own = self._bias(table, grid)
            position = own if position is None else own + position
        return block(tokens, shared_rel_pos_bias=position)

    def _bias(self, table: Tensor, grid: Grid) -> Tensor:
        """Bias (heads, N, N) of a table ((2h - 1)(2w - 1) + 3, heads), resized bicubically from the anchor's own grid.

        The last three rows are for the class token and keep their values.
        """
        if grid != self.grid_size:
            height, width = self.grid_size
            relative = table[:-3].T.reshape(1, -1, 2 * height - 1, 2 * width - 1)
            size = (2 * grid[0] - 1, 2 * grid[1] - 1)
            relative = F.interpolate(relative.float(), size=size, mode='bicubic').to(table.dtype)
            table = torch.cat([relative.flatten(2)[0].T, table[-3:]])
        index = _INDICES.get(grid, table, lambda: _relative_position_index(grid, table.device))
        # Unlike an indexed tensor, an embedding takes int32 as it is.
        return F.embedding(index, table).permute(2, 0, 1).contiguous()


def _no_bias() -> float:
    return 0.0


def _relative_position_index(grid: Grid, device: torch.device) -> Tensor:
    """Rows of a bias table for all pairs of tokens (N, N), N = 1 + h * w, the class token first; int32."""
    (height, width), places = grid, grid[0] * grid[1]
    rows, columns = (_differences(side, device) for side in grid)
    pairs = (rows * (2 * width - 1))[:, None, :, None] + columns[None, :, None, :]
    index = F.pad(pairs.reshape(places, places), (1, 0, 1, 0))
    # The table's last three rows: class token to patch, patch to class token, class token to itself.
    last = (2 * height - 1) * (2 * width - 1)
    index[0], index[:, 0], index[0, 0] = last, last + 1, last + 2
    return index


def _differences(side: int, device: torch.device) -> Tensor:
    """(side, side) int32: how far each place is behind each other one, from 0 up."""
    places = torch.arange(side, dtype=torch.int32, device=device)
    return places[:, None] - places + side - 1
