"""Weights of the released SN-Netv2 and SN-Net code (ziplab/SN-Netv2 at dd17607) in this package's names."""

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmsnnet.errors import UserError

_ANCHOR_NAMES = {
    'ln1.': 'norm1.',
    'ln2.': 'norm2.',
    'ffn.layers.0.0.': 'mlp.fc1.',
    'ffn.layers.1.': 'mlp.fc2.',
    'patch_embed.projection.': 'patch_embed.proj.',
}
_DROPPED = {
    r'anchors\.\d+\.layers\.\d+\.attn\.relative_position_index': 'recomputed from the grid',
    r'anchors\.\d+\.ln1\.(weight|bias)': 'a final norm that dense features do not use',
}


@dataclass
class Conversion:
    """Outcome of a conversion: the new state dict, and what happened to each key."""

    state_dict: dict[str, Tensor] = field(default_factory=dict)
    mapped: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)

    def put(self, old: str, new: str, value: Tensor) -> None:
        self.state_dict[new] = value
        self.mapped.setdefault(old, []).append(new)


def convert_official_backbone(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the released segmentation backbone, v1 or v2 -> one that ``StitchedViT`` loads.

    The anchors are BEiT-style: create them as timm ``beit_*`` models with ``use_abs_pos_emb=True`` and
    ``use_rel_pos_bias=True``.

    Raises:
        ValueError: a key that the released code does not write.
    """
    return convert_backbone(state_dict).state_dict


def convert_backbone(state_dict: dict[str, Tensor]) -> Conversion:
    """As ``convert_official_backbone``, with what became of each key."""
    conversion = Conversion()
    unknown = [key for key, value in state_dict.items() if not _convert_key(key, value, conversion)]
    if unknown:
        raise UserError(f'{len(unknown)} keys are not of a released SN-Net backbone, e.g. {unknown[0]!r}')
    return conversion


def convert_segmentor(state_dict: dict[str, Tensor]) -> Conversion:
    """State dict of a released segmentor: its backbone is converted, its heads keep their names.

    Raises:
        ValueError: no backbone, or a key that the released code does not write.
    """
    backbone = {
        key.removeprefix('backbone.'): value for key, value in state_dict.items() if key.startswith('backbone.')
    }
    if not backbone:
        raise UserError(f"no key starts with 'backbone.', e.g. {next(iter(state_dict), 'none at all')!r}")
    converted = convert_backbone(backbone)
    conversion = Conversion(dropped={f'backbone.{key}': why for key, why in converted.dropped.items()})
    for old, news in converted.mapped.items():
        for new in news:
            conversion.put(f'backbone.{old}', f'backbone.{new}', converted.state_dict[new])
    for key, value in state_dict.items():
        if key.startswith(('decode_head.', 'auxiliary_head.')):
            conversion.put(key, key, value)
        elif not key.startswith('backbone.'):
            raise UserError(f'{key!r} is not of a released SN-Net segmentor')
    return conversion


def convert_checkpoint(checkpoint: dict) -> Conversion:
    """A released checkpoint, of a segmentor or of a bare backbone, as it was loaded from its file.

    Raises:
        ValueError: a key that the released code does not write.
    """
    state_dict = checkpoint.get('state_dict', checkpoint)
    is_segmentor = any(key.startswith('backbone.') for key in state_dict)
    return convert_segmentor(state_dict) if is_segmentor else convert_backbone(state_dict)


def _convert_key(key: str, value: Tensor, conversion: Conversion) -> bool:
    """Put one key's weights into ``conversion``; False if the released code does not write it."""
    for pattern, reason in _DROPPED.items():
        if re.fullmatch(pattern, key):
            conversion.dropped[key] = reason
            return True
    if match := re.fullmatch(r'stitch_layers\.(?:([01])\.)?(\d+)\.transform\.(weight|bias|lora_A|lora_B)', key):
        direction = 'down' if match[1] == '1' else 'up'
        conversion.put(key, f'{direction}.0.{int(match[2]) + 1}.{match[3].lower()}', value)
        return True
    match = re.fullmatch(r'anchors\.(\d+)\.(.+)', key)
    if not match or not _is_anchor_name(match[2]):
        return False
    name = match[2].replace('layers.', 'blocks.', 1) if match[2].startswith('layers.') else match[2]
    for old, new in _ANCHOR_NAMES.items():
        name = name.replace(old, new)
    name = f'anchors.{match[1]}.{name}'
    if name.endswith('attn.qkv.bias'):
        # The softmax does not see a constant bias of all keys: the released code trains one, timm's Beit has none.
        query, _, value = value.chunk(3)
        conversion.put(key, name.replace('qkv.bias', 'q_bias'), query)
        conversion.put(key, name.replace('qkv.bias', 'v_bias'), value)
    elif name.endswith('.pos_embed'):
        # Ours has a slot for the class token, to which the released code adds no position.
        conversion.put(key, name, torch.cat([value.new_zeros(1, 1, value.shape[2]), value], dim=1))
    else:
        conversion.put(key, name, value)
    return True


def _is_anchor_name(name: str) -> bool:
    linear = r'(ln[12]|ffn\.layers\.(0\.0|1)|attn\.(qkv|proj))\.(weight|bias)'
    block = rf'layers\.\d+\.(gamma_[12]|attn\.relative_position_bias_table|{linear})'
    return bool(re.fullmatch(rf'cls_token|pos_embed|patch_embed\.projection\.(weight|bias)|{block}', name))
