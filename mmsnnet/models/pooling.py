"""Class features: the vector of an image that a timm model's classifier reads."""

import torch
from timm.layers import global_pool_nlc
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.settings import check_word

# What leaves a backbone: feature maps, or a vector, as the timm model pools it or as DINOv2's linear classifiers want.
OUT_TYPES = ('featmap', 'pooled', 'cls_and_avg')


class Pooling(nn.Module):
    """What lies between the final norm and the classifier of a timm ViT. The layers and weights are timm's own.

    Args:
        vit: a timm model.
        out_type: ``'pooled'``: as the model has it: the class token, the mean of the patches, or attention, and a norm
            that some models have behind it. ``'cls_and_avg'``: class token and mean of the patches, side by side.

    Raises:
        ValueError: a model that pools in neither way.
    """

    def __init__(self, vit: nn.Module, out_type: str) -> None:
        super().__init__()
        self.out_type = check_word('out_type', out_type, OUT_TYPES)
        self.num_prefix_tokens: int = getattr(vit, 'num_prefix_tokens', 0)
        self.global_pool: str = getattr(vit, 'global_pool', '')
        self.includes_prefix: bool = getattr(vit, 'pool_include_prefix', False)
        is_pooled = out_type == 'pooled'
        self.attn_pool = getattr(vit, 'attn_pool', None) if is_pooled else None
        self.fc_norm = vit.fc_norm if is_pooled and hasattr(vit, 'fc_norm') else nn.Identity()
        # Swin's tokens are maps, which its head pools. SAM's has no norm, and reads what a neck makes of them.
        has_map_pool = hasattr(vit, 'norm') and not hasattr(vit, 'fc_norm')
        self.map_pool = getattr(getattr(vit, 'head', None), 'global_pool', None) if has_map_pool else None
        if not is_pooled and not self.num_prefix_tokens:
            raise UserError(f'out_type={out_type!r} needs a class token, this {type(vit).__name__} has none')
        is_known = self.attn_pool is not None or self.global_pool in ('token', 'avg') or not is_pooled
        if not (hasattr(vit, 'fc_norm') or self.map_pool is not None) or not is_known:
            raise UserError(f'out_type={out_type!r}: {type(vit).__name__} pools its tokens in a way that is not known')

    def channels(self, width: int) -> int:
        """Channels of the vector for tokens of a width."""
        return width if self.out_type == 'pooled' else 2 * width

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, C), or a map (B, h, w, C), -> (B, C), or (B, 2 C)."""
        if self.map_pool is not None:
            return self.map_pool(tokens)
        if self.out_type == 'cls_and_avg':
            return torch.cat([self._pool(tokens, 'token'), self._pool(tokens, 'avg')], dim=1)
        if self.attn_pool is not None:
            return self.fc_norm(self.attn_pool(tokens if self.includes_prefix else tokens[:, self.num_prefix_tokens :]))
        return self.fc_norm(self._pool(tokens, self.global_pool))

    def _pool(self, tokens: Tensor, how: str) -> Tensor:
        return global_pool_nlc(tokens, how, self.num_prefix_tokens, self.includes_prefix)
