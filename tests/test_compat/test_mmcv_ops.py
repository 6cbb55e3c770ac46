"""Law: with mmcv-lite, what Mask R-CNN calls works and equals torchvision; every other op says its name."""

import importlib
import importlib.util
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvision

from mmsnnet.compat import install, mmcv_ext
from mmsnnet.compat.mmcv_ops import StandInFinder
from mmsnnet.errors import UserError

install()


@pytest.fixture
def features() -> torch.Tensor:
    return torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def rois() -> torch.Tensor:
    """(K, 5): image index, x1, y1, x2, y2, inside and across the border of images 64 wide and 48 high."""
    return torch.tensor([[0.0, 3, 4, 30, 40], [1, 10.5, 2.25, 63, 47], [1, -5, -5, 70, 60], [0, 7, 7, 7.5, 7.5]])


def random_boxes(num_boxes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Integer boxes (N, 4) that overlap a lot, so that offset 0 and offset 1 differ; and scores (N,)."""
    generator = torch.Generator().manual_seed(1)
    top_left = torch.randint(0, 12, (num_boxes, 2), generator=generator).float()
    size = torch.randint(2, 10, (num_boxes, 2), generator=generator).float()
    return torch.cat([top_left, top_left + size], dim=1), torch.rand(num_boxes, generator=generator)


def greedy_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float, offset: int) -> list[int]:
    """The definition, pair by pair."""
    keep: list[int] = []
    for i in np.argsort(-scores):
        if all(overlap(boxes[i], boxes[j], offset) <= iou_threshold for j in keep):
            keep.append(int(i))
    return keep


def overlap(a: np.ndarray, b: np.ndarray, offset: int) -> float:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1 + offset, 0) * max(y2 - y1 + offset, 0)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    return shared / (area(*a) + area(*b) - shared)


@pytest.mark.parametrize('name', ['mmcv.ops', 'mmseg.models', 'mmseg.apis', 'mmdet.models', 'mmdet.apis'])
def test_everything_imports(name):
    importlib.import_module(name)


def test_install_once_is_enough():
    install()
    (place,) = [i for i, finder in enumerate(sys.meta_path) if isinstance(finder, StandInFinder)]
    assert place > sys.meta_path.index(PathFinder)


@pytest.fixture
def toy_mmcv(tmp_path, monkeypatch):
    """Directory of a package ``mmcv`` that is imported instead of the real one, for the length of one test."""
    for name in [name for name in sys.modules if name.split('.')[0] == 'mmcv']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').touch()
    yield tmp_path / 'mmcv'
    for name in ('mmcv', 'mmcv._ext'):
        sys.modules.pop(name, None)  # before monkeypatch puts the real ones back


def test_the_stand_in_has_a_real_spec(toy_mmcv):
    spec = importlib.util.find_spec('mmcv._ext')
    module = importlib.import_module('mmcv._ext')
    assert spec.loader is not None  # what `pkgutil.find_loader` returns
    assert module.__spec__.name == 'mmcv._ext'
    assert module.__file__ == mmcv_ext.__file__
    assert importlib.util.find_spec('mmcv._other') is None


def test_compiled_ops_are_left_alone(toy_mmcv):
    (toy_mmcv / '_ext.py').write_text("nms = 'compiled'")
    module = importlib.import_module('mmcv._ext')
    assert module.nms == 'compiled'
    assert not hasattr(module, 'roi_align_forward')


def test_ops_that_were_imported_before_are_left_alone(toy_mmcv, monkeypatch):
    compiled = ModuleType('mmcv._ext')
    monkeypatch.setitem(sys.modules, 'mmcv._ext', compiled)
    assert importlib.import_module('mmcv._ext') is compiled


def test_a_missing_mmcv_stays_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv', None)
    monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
    with pytest.raises(ModuleNotFoundError, match='mmcv'):
        importlib.import_module('mmcv._ext')


def test_install_imports_none_of_what_it_prepares():
    code = (
        'import sys; from mmsnnet.compat import install; install(); print({"mmcv", "mmseg", "mmdet"} & {*sys.modules})'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout.strip() == 'set()', done.stderr


def test_mmengine_and_mmcv_find_the_ops():
    from mmcv.utils.ext_loader import check_ops_exist
    from mmengine.utils.dl_utils import mmcv_full_available

    assert check_ops_exist()
    assert mmcv_full_available()


def test_collect_env_works():
    from mmcv.utils import collect_env

    assert 'MMCV Compiler' in collect_env()


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_is_greedy_suppression_by_score(offset):
    from mmcv.ops import nms

    boxes, scores = random_boxes(40)
    dets, keep = nms(boxes, scores, iou_threshold=0.4, offset=offset)
    assert keep.tolist() == greedy_nms(boxes.double().numpy(), scores.numpy(), 0.4, offset)
    assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], dim=1))


def test_nms_offset_matters():
    boxes, scores = random_boxes(40)
    assert mmcv_ext.nms(boxes, scores, 0.4, offset=0).tolist() != mmcv_ext.nms(boxes, scores, 0.4, offset=1).tolist()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_nms_takes_half_boxes_whose_areas_half_does_not_hold(dtype):
    boxes, scores = random_boxes(40)
    kept = mmcv_ext.nms((boxes * 64).to(dtype), scores.to(dtype), iou_threshold=0.4, offset=0)
    assert torch.equal(kept, mmcv_ext.nms(boxes * 64, scores.to(dtype).float(), iou_threshold=0.4, offset=0))


def test_nms_takes_half_scores_and_no_boxes():
    boxes, scores = random_boxes(40)
    half = mmcv_ext.nms(boxes, scores.half(), iou_threshold=0.4, offset=0)
    assert torch.equal(half, mmcv_ext.nms(boxes, scores.half().float(), iou_threshold=0.4, offset=0))
    none = mmcv_ext.nms(boxes[:0], scores[:0], iou_threshold=0.4, offset=1)
    assert none.dtype == torch.long
    assert none.shape == (0,)


def test_batched_nms_keeps_classes_apart():
    from mmcv.ops import batched_nms

    boxes, scores = random_boxes(40)
    classes = torch.arange(40) % 3
    _, keep = batched_nms(boxes, scores, classes, {'type': 'nms', 'iou_threshold': 0.4})
    assert torch.equal(keep, torchvision.ops.batched_nms(boxes, scores, classes, 0.4))


@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_equals_torchvision_forward_and_backward(features, rois, sampling_ratio, aligned):
    from mmcv.ops import RoIAlign

    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    pool = RoIAlign((5, 7), spatial_scale=0.25, sampling_ratio=sampling_ratio, aligned=aligned)
    output = pool(ours, rois)
    expected = torchvision.ops.roi_align(theirs, rois, (5, 7), 0.25, sampling_ratio, aligned)
    assert output.shape == (4, 3, 5, 7)
    assert torch.equal(output, expected)

    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(2))
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad.abs().sum() > 0
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision_is_that_of_float32_rounded(features, rois, dtype):
    from mmcv.ops import RoIAlign

    features = features.to(dtype)
    ours, theirs = features.clone().requires_grad_(), features.float().requires_grad_()
    output = RoIAlign((5, 7), spatial_scale=0.25, sampling_ratio=2)(ours, rois.to(dtype))
    expected = torchvision.ops.roi_align(theirs, rois.to(dtype).float(), (5, 7), 0.25, 2, aligned=True)
    assert output.dtype == dtype
    assert torch.equal(output, expected.to(dtype))

    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    output.backward(weights)
    expected.backward(weights.float())
    assert ours.grad.dtype == dtype
    assert ours.grad.abs().sum() > 0
    assert torch.equal(ours.grad, theirs.grad.to(dtype))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_deformable_attention_is_mmcv_s_own_for_cpus_forward_and_backward(monkeypatch, dtype):
    """The function that mmcv calls on CUDA, here on a CPU."""
    from mmcv.ops import multi_scale_deform_attn as ops

    monkeypatch.setattr(ops, 'ext_module', mmcv_ext)
    generator = torch.Generator().manual_seed(3)
    shapes = torch.tensor([[4, 6], [2, 3]])
    value = torch.rand(2, 30, 2, 4, generator=generator)
    locations = torch.rand(2, 5, 2, 2, 3, 2, generator=generator) * 1.2 - 0.1
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator)
    ours = [tensor.to(dtype).requires_grad_() for tensor in (value, locations, weights)]
    theirs = [tensor.detach().to(dtype).double().requires_grad_() for tensor in ours]

    output = ops.MultiScaleDeformableAttnFunction.apply(ours[0], shapes, torch.tensor([0, 24]), *ours[1:], 64)
    expected = ops.multi_scale_deformable_attn_pytorch(theirs[0], shapes, *theirs[1:])
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)

    factors = torch.rand(output.shape, generator=generator).to(dtype)
    output.backward(factors)
    expected.backward(factors.double())
    for our, their in zip(ours, theirs, strict=True):
        assert our.grad.dtype == dtype
        assert our.grad.any()
        scale = their.grad.abs().max()
        torch.testing.assert_close(our.grad / scale, their.grad / scale, rtol=0, atol=tolerance, check_dtype=False)


def test_mask_targets_are_cropped_and_resized():
    from mmdet.structures.mask import BitmapMasks

    masks = np.zeros((1, 48, 64), dtype=np.uint8)
    masks[:, 10:30, 20:40] = 1
    cropped = BitmapMasks(masks, 48, 64).crop_and_resize(np.array([[10.0, 10, 30, 30]]), (4, 4), np.array([0]))
    assert cropped.masks[0].tolist() == [[0, 0, 1, 1]] * 4


def test_max_pooling_says_what_is_served(features, rois):
    from mmcv.ops import RoIAlign

    with pytest.raises(ValueError, match=r"pool_mode 'max' .* 'avg' only.*mim install mmcv==2\.1\.0"):
        RoIAlign(4, pool_mode='max')(features, rois)


def test_every_other_op_names_itself_when_called():
    boxes, scores = random_boxes(4)
    with pytest.raises(UserError, match=r"'softnms' is a compiled op .*mim install mmcv==2\.1\.0"):
        mmcv_ext.softnms(boxes, scores)
    assert mmcv_ext.softnms.__name__ == 'softnms'
    assert not hasattr(mmcv_ext, '__path__')


def test_ops_that_mmcv_runs_reach_the_stand_in():
    import mmcv._ext
    from mmcv.ops import soft_nms

    if mmcv._ext.__file__ != mmcv_ext.__file__:
        pytest.skip('compiled mmcv is installed, so there is no stand-in')
    with pytest.raises(UserError, match="'softnms' is a compiled op"):
        soft_nms(*random_boxes(4))
