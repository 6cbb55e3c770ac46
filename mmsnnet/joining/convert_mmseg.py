"""MMSegmentation's own ViTs as anchors: what creates them in timm, and their weights in timm's names.

An anchor's features equal the original's at every size. One size differs: where an image has another shape than the
model, but as many patches, MMSegmentation adds the positions as they are, in the wrong places.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmsnnet.errors import UserError

Options = Mapping[str, Any]

# Old name to new, applied in this order. At the top, ln1 is the norm after all layers.
_NAMES = {
    r'^patch_embed\.projection\.': 'patch_embed.proj.',
    r'^ln1\.': 'norm.',
    r'^ln_pre\.': 'norm_pre.',
    r'^layers\.(\d+)\.': r'blocks.\1.',
    r'\.ln([12])\.': r'.norm\1.',
    r'\.attn\.attn\.in_proj_': '.attn.qkv.',
    r'\.attn\.attn\.out_proj\.': '.attn.proj.',
    r'\.ffn\.layers\.0\.0\.': '.mlp.fc1.',
    r'\.ffn\.layers\.1\.': '.mlp.fc2.',
}


class LoneAnchor(NamedTuple):
    """A finished backbone as an anchor: settings of ``AnchorViT``, and the anchor's weights."""

    anchor: dict
    out_indices: tuple[int, ...]
    state_dict: dict[str, Tensor]
    final_norm: bool = False
    out_type: str = 'featmap'
    output_cls_token: bool = False

    @property
    def depth(self) -> int:
        return len({name.split('.')[1] for name in self.state_dict if name.startswith('blocks.')})


def is_mmseg_vit(backbone: nn.Module) -> bool:
    """Whether ``convert_mmseg_backbone`` knows a backbone."""
    return _class_name(backbone) in _ARGUMENTS and type(backbone).__module__.startswith('mmseg.')


def convert_mmseg_backbone(backbone: nn.Module, cfg: Mapping) -> LoneAnchor:
    """A ``VisionTransformer``, ``BEiT`` or ``MAE`` of MMSegmentation, built from ``cfg`` -> an anchor.

    Raises:
        ValueError: a setting with which no anchor gives the same features.
    """
    parameters = inspect.signature(type(backbone).__init__).parameters.values()
    options = {parameter.name: parameter.default for parameter in parameters} | dict(cfg)
    depth = options['num_layers']
    out_indices = tuple(index for index in range(depth) if index in backbone.out_indices)
    _check_common(options, out_indices)
    # Where the last layer's output does not leave, nothing sees the norm after it.
    norm_last_block = options['final_norm'] and out_indices[-1] == depth - 1
    arguments = {
        'img_size': _pair(options['img_size']),
        'patch_size': options['patch_size'],
        'embed_dim': options['embed_dims'],
        'depth': depth,
        'num_heads': options['num_heads'],
        'mlp_ratio': options['mlp_ratio'],
        'drop_path_rate': options['drop_path_rate'],
        # Norms of MMSegmentation are PyTorch's.
        'norm_eps': options['norm_cfg'].get('eps', 1e-5),
        'norm_last_block': norm_last_block,
        **_ARGUMENTS[_class_name(backbone)](options),
    }
    weights = _rename(backbone.state_dict(), f'blocks.{depth - 1}.final_norm.' if norm_last_block else '')
    if 'pos_embed' in weights and not arguments.get('class_token', True):
        del weights['cls_token']
        weights['pos_embed'] = weights['pos_embed'][:, 1:]
    if 'patch_embed.proj.bias' not in weights and not arguments.get('pre_norm'):
        weights['patch_embed.proj.bias'] = torch.zeros(options['embed_dims'])
    for index in range(depth):
        _complete_attention(weights, f'blocks.{index}.attn.')
    return LoneAnchor(arguments, out_indices, weights, output_cls_token=options.get('output_cls_token', False))


def _vit_arguments(options: Options) -> dict:
    _refuse('patch_pad', options['patch_pad'] != 'corner', options)
    _refuse('out_origin', options['out_origin'], options)
    _refuse('patch_bias', options['pre_norm'] and options['patch_bias'], options, 'together with pre_norm')
    _refuse('interpolate_mode', options['interpolate_mode'] not in ('bicubic', 'bilinear'), options)
    return {
        'model': 'vit_base_patch16_224',
        'qkv_bias': options['qkv_bias'],
        'class_token': options['with_cls_token'],
        'global_pool': '',
        'pre_norm': options['pre_norm'],
        'resize_mode': options['interpolate_mode'],
    }


def _beit_arguments(options: Options) -> dict:
    # Its patches end where the image does not; ours pad it.
    size = _pair(options['img_size'])
    _refuse('img_size', any(side % options['patch_size'] for side in size), options, 'that is no multiple of the patch')
    is_mae = 'qv_bias' not in options
    return {
        'model': 'beit_base_patch16_224',
        'qkv_bias': is_mae or options['qv_bias'],
        # Layers have the scale even where it starts at 0.
        'init_values': options['init_values'] or 1.0,
        'use_abs_pos_emb': is_mae,
        'use_rel_pos_bias': True,
        'use_fc_norm': False,
    }


_ARGUMENTS: dict[str, Callable[[Options], dict]] = {
    'VisionTransformer': _vit_arguments,
    'BEiT': _beit_arguments,
    'MAE': _beit_arguments,
}


def _check_common(options: Options, out_indices: Sequence[int]) -> None:
    _refuse('in_channels', options['in_channels'] != 3, options)
    _refuse('num_fcs', options['num_fcs'] != 2, options)
    _refuse('norm_cfg', options['norm_cfg']['type'] != 'LN', options)
    _refuse('act_cfg', dict(options['act_cfg']) != {'type': 'GELU'}, options)
    _refuse('patch_norm', options['patch_norm'], options)
    _refuse('out_indices', not out_indices, options)


def _refuse(name: str, is_unlike: bool, options: Options, when: str = '') -> None:
    if is_unlike:
        raise UserError(
            f"MMSegmentation's backbone has {name}={options[name]!r}{f' {when}' if when else ''}: no anchor gives the "
            'same features'
        )


def _rename(state_dict: Mapping[str, Tensor], final_norm: str) -> dict[str, Tensor]:
    """Weights in timm's names, without tables that timm computes.

    Args:
        final_norm: prefix of the norm that follows all layers; if empty, it is left out.
    """
    weights = {}
    for name, value in state_dict.items():
        for old, new in _NAMES.items():
            name = re.sub(old, new, name)
        if name.startswith('norm.'):
            name = name.replace('norm.', final_norm) if final_norm else ''
        if name and not name.endswith('.relative_position_index'):
            weights[name] = value.detach().clone()
    return weights


def _complete_attention(weights: dict[str, Tensor], block: str) -> None:
    """Give attention the biases that timm's has, which change nothing."""
    table = f'{block}relative_position_bias_table'
    bias = f'{block}qkv.bias'
    if table in weights and bias in weights:
        # The softmax does not see a constant bias of all keys: MAE trains one, timm's Beit has none.
        weights[f'{block}q_bias'], _, weights[f'{block}v_bias'] = weights.pop(bias).chunk(3)
    weights.setdefault(f'{block}proj.bias', torch.zeros(len(weights[f'{block}proj.weight'])))


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size,) if isinstance(size, int) else tuple(size)
    return sides * 2 if len(sides) == 1 else sides


def _class_name(backbone: nn.Module) -> str:
    return type(backbone).__name__
