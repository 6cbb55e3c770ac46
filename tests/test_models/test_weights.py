import pytest
import torch
from toys import randomise, toy_anchor, toy_vit

from mmsnnet.models import Anchor, AnchorViT, create_anchor, find_mismatch
from mmsnnet.models.weights import init_anchor


@pytest.fixture
def trained() -> Anchor:
    return randomise(create_anchor(**toy_anchor()))


@pytest.fixture
def checkpoint(tmp_path, trained) -> str:
    """A segmentor's checkpoint: the anchor's weights under a prefix, and others."""
    weights = {f'backbone.anchors.0.{key}': value for key, value in trained.state_dict().items()}
    torch.save({'state_dict': {**weights, 'decode_head.weight': torch.ones(2)}}, tmp_path / 'segmentor.pth')
    return str(tmp_path / 'segmentor.pth')


def assert_equal(anchor: Anchor, trained: Anchor) -> None:
    expected = trained.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in anchor.state_dict().items())


def load(anchor: Anchor, init_cfg: dict, **arguments) -> Anchor:
    init_anchor(anchor, toy_anchor(**arguments), init_cfg)
    return anchor


def test_loads_the_keys_under_a_prefix(checkpoint, trained):
    init_cfg = {'type': 'Pretrained', 'checkpoint': checkpoint, 'prefix': 'backbone.anchors.0.'}
    assert_equal(load(create_anchor(**toy_anchor()), init_cfg), trained)
    assert set(init_cfg) == {'type', 'checkpoint', 'prefix'}


def test_loads_a_bare_state_dict(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / 'anchor.pth')
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'anchor.pth')}
    assert_equal(load(create_anchor(**toy_anchor()), init_cfg), trained)


@pytest.mark.parametrize('family', ['deit3', 'dinov3', 'beit'])
def test_loads_timm_s_weights_from_a_file(tmp_path, family):
    vit = randomise(toy_vit(family), seed=5)
    torch.save(vit.state_dict(), tmp_path / 'timm.pth')
    init_cfg = {'type': 'TimmPretrained', 'file': str(tmp_path / 'timm.pth')}
    anchor = load(create_anchor(**toy_anchor(family)), init_cfg, family=family)
    expected = vit.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in anchor.state_dict().items())


@pytest.mark.parametrize('family', ['deit3', 'dinov3'])
def test_the_final_norm_loads_with_an_anchor(tmp_path, family):
    vit = randomise(toy_vit(family), seed=5)
    torch.save(vit.state_dict(), tmp_path / 'timm.pth')
    init_cfg = {'type': 'TimmPretrained', 'file': str(tmp_path / 'timm.pth')}
    backbone = AnchorViT(toy_anchor(family, init_cfg=init_cfg), final_norm=True)
    backbone.init_weights()
    assert torch.equal(backbone.anchors[0].norm.weight, vit.norm.weight)


@pytest.mark.parametrize(
    ('arguments', 'prefix', 'message'),
    [
        ({}, 'backbone.', r"keys 'backbone\.'.*keys are missing, e\.g\. blocks\.0"),
        ({'width': 32}, 'backbone.anchors.0.', "fit anchor 'deit3_.*has shape .*16.* the model wants .*32"),
        ({'depth': 1}, 'backbone.anchors.0.', r'keys are unknown, e\.g\. blocks\.1'),
    ],
)
def test_refuses_weights_that_do_not_fit(checkpoint, arguments, prefix, message):
    anchor = create_anchor(**toy_anchor(**arguments))
    before = {key: value.clone() for key, value in anchor.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load(anchor, {'type': 'Pretrained', 'checkpoint': checkpoint, 'prefix': prefix}, **arguments)
    assert all(torch.equal(value, before[key]) for key, value in anchor.state_dict().items())


@pytest.mark.parametrize(
    'place', [{'type': 'Pretrained', 'checkpoint': 'no/such.pth'}, {'type': 'TimmPretrained', 'file': 'no/such.pth'}]
)
def test_refuses_a_missing_file(place):
    with pytest.raises(FileNotFoundError, match=r'no/such\.pth'):
        load(create_anchor(**toy_anchor()), place)


@pytest.mark.parametrize(
    ('init_cfg', 'message'),
    [
        ({'type': 'Xavier'}, "type 'TimmPretrained' or 'Pretrained', got 'Xavier'"),
        ({'checkpoint': 'a.pth'}, 'got None'),
        ({'type': 'Pretrained', 'file': 'a.pth'}, "type 'Pretrained' cannot have {'file': 'a.pth'}"),
        ({'type': 'TimmPretrained', 'checkpoint': 'a.pth'}, "type 'TimmPretrained' cannot have {'checkpoint'"),
    ],
)
def test_refuses_another_init_cfg(init_cfg, message):
    with pytest.raises(ValueError, match=message):
        load(create_anchor(**toy_anchor()), init_cfg)


@pytest.mark.parametrize(
    ('given', 'problem'),
    [
        ({'a': (2, 3), 'b': (4,)}, None),
        ({'a': (2, 3)}, '1 keys are missing, e.g. b'),
        ({'a': (2, 3), 'b': (4,), 'c': (1,), 'd': (1,)}, '2 keys are unknown, e.g. c'),
        ({'a': (3, 2), 'b': (5,), 'c': (1,)}, 'a has shape (3, 2), the model wants (2, 3)'),
    ],
)
def test_find_mismatch(given, problem):
    wanted = {'a': torch.empty(2, 3), 'b': torch.empty(4)}
    assert find_mismatch(wanted, {key: torch.empty(shape) for key, shape in given.items()}) == problem


def test_a_whole_timm_model_has_keys_an_anchor_has_not():
    assert 'unknown' in find_mismatch(create_anchor(**toy_anchor()).state_dict(), toy_vit().state_dict())
