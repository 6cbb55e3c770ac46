"""Anchors converted from MMSegmentation's ViTs give the features of the originals."""

import pytest
import torch
from mmseg.models.backbones import MAE, BEiT, VisionTransformer
from toys import randomise, toy_images

from mmsnnet.errors import UserError
from mmsnnet.joining.convert_mmseg import convert_mmseg_backbone, is_mmseg_vit
from mmsnnet.models import AnchorViT
from mmsnnet.models.weights import find_mismatch

SIZE = (32, 48)
TOY = dict(img_size=SIZE, patch_size=8, embed_dims=16, num_layers=3, num_heads=2, out_indices=(0, 2))
# Larger than any model's, so that it shows.
LN = dict(norm_cfg=dict(type='LN', eps=0.01))


def converted(kind: type, **options) -> tuple[torch.nn.Module, AnchorViT]:
    """A toy of MMSegmentation whose every parameter matters, and its anchor."""
    cfg = {**TOY, **options}
    original = randomise(kind(**cfg))
    original.eval()
    assert is_mmseg_vit(original)
    vit = convert_mmseg_backbone(original, cfg)
    weights = vit.state_dict
    alone = AnchorViT(vit.anchor, vit.out_indices, output_cls_token=vit.output_cls_token).eval()
    problem = find_mismatch(alone.anchors[0].state_dict(), weights)
    assert problem is None, problem
    alone.anchors[0].load_state_dict(weights)
    return original, alone


@torch.no_grad()
def difference(original: torch.nn.Module, alone: AnchorViT, *size: int) -> float:
    """Largest difference of all levels, of their largest value."""
    images = toy_images(*size)
    theirs, ours = (_tensors(backbone(images)) for backbone in (original, alone))
    assert len(theirs) == len(ours)
    return max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(theirs, ours, strict=True))


def _tensors(levels: tuple) -> list[torch.Tensor]:
    """Maps, or maps and class tokens in turn."""
    return [tensor for level in levels for tensor in (level if isinstance(level, list) else [level])]


@pytest.mark.parametrize('size', [SIZE, (40, 24), (64, 96), (37, 50)])
@pytest.mark.parametrize(
    'options',
    [
        {},
        LN,
        dict(img_size=40),
        dict(img_size=(36,)),
        dict(patch_bias=True, mlp_ratio=2, drop_path_rate=0.1),
        dict(pre_norm=True),
        dict(qkv_bias=False),
        dict(with_cls_token=False),
        dict(with_cls_token=False, pre_norm=True),
        dict(interpolate_mode='bilinear'),
        dict(output_cls_token=True),
        dict(output_cls_token=True, final_norm=True),
        dict(final_norm=True),
        dict(final_norm=True, out_indices=-1),
        dict(final_norm=True, out_indices=[1, 0]),
        dict(out_indices=1),
    ],
)
def test_vision_transformer(options, size):
    assert difference(*converted(VisionTransformer, **options), *size) < 1e-5


@pytest.mark.parametrize(
    ('kind', 'options'),
    [
        (BEiT, {}),
        (BEiT, LN),
        (BEiT, dict(qv_bias=False, init_values=0)),
        (BEiT, dict(final_norm=True, init_values=1e-6)),
        (MAE, {}),
        (MAE, dict(final_norm=True, out_indices=2, mlp_ratio=2, **LN)),
    ],
)
def test_beit_and_mae(kind, options):
    original, alone = converted(kind, **options)
    assert difference(original, alone, *SIZE) < 1e-5
    # Unlike the original, an anchor takes other sizes.
    assert [level.shape[2:] for level in alone(toy_images(40, 24))] == [(5, 3)] * len(alone.out_indices)


def test_settings_matter():
    """Else the tests above could not fail."""
    images = toy_images(64, 96)

    def features(**options) -> torch.Tensor:
        return converted(VisionTransformer, **options)[1](images)[-1]

    with torch.no_grad():
        first = features()
        for options in (
            LN,
            dict(final_norm=True),
            dict(interpolate_mode='bilinear'),
            dict(pre_norm=True),
            dict(with_cls_token=False),
        ):
            assert (features(**options) - first).abs().max() > 1e-5 * first.abs().max(), options


@pytest.mark.parametrize(
    ('kind', 'options', 'message'),
    [
        (VisionTransformer, dict(patch_pad='same'), "patch_pad='same'"),
        (VisionTransformer, dict(out_origin=True), 'out_origin=True'),
        (VisionTransformer, dict(pre_norm=True, patch_bias=True), 'patch_bias=True together with pre_norm'),
        (VisionTransformer, dict(interpolate_mode='nearest'), "interpolate_mode='nearest'"),
        (VisionTransformer, dict(in_channels=4), 'in_channels=4'),
        (VisionTransformer, dict(num_fcs=3), 'num_fcs=3'),
        (VisionTransformer, dict(norm_cfg=dict(type='BN1d')), 'norm_cfg='),
        (VisionTransformer, dict(act_cfg=dict(type='ReLU')), 'act_cfg='),
        (VisionTransformer, dict(patch_norm=True), 'patch_norm=True'),
        (VisionTransformer, dict(out_indices=(7,)), 'out_indices='),
        (BEiT, dict(patch_norm=True), 'patch_norm=True'),
        (BEiT, dict(img_size=36), 'img_size=36 that is no multiple'),
        (MAE, dict(act_cfg=dict(type='ReLU')), 'act_cfg='),
    ],
)
def test_refuses_what_no_anchor_represents(kind, options, message):
    cfg = {**TOY, **options}
    with pytest.raises(UserError, match=message) as raised:
        convert_mmseg_backbone(kind(**cfg), cfg)
    assert '\n' not in str(raised.value)


def test_knows_no_other_backbone():
    class BEiT(torch.nn.Module):
        pass

    assert not is_mmseg_vit(BEiT())
    assert not is_mmseg_vit(AnchorViT(dict(model='vit_tiny_patch16_224', depth=1)))
