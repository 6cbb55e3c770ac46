"""Boxes in float32 under mixed precision.

MMDetection 3 gives boxes the dtype of features. In float16, coordinates above 1024 lose their fractions, and areas
above 65504 overflow: a region of 300x300 is then pooled from the level of larger ones. In bfloat16, coordinates near
1000 are 4 apart. MMDetection 2 decoded boxes in float32, and so does this.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import torch


def install() -> None:
    """Patch MMDetection's modules, those that are not imported yet when they are."""
    sys.meta_path.insert(0, _PatchFinder())
    for name in _PATCHES.keys() & sys.modules.keys():
        _PATCHES[name](sys.modules[name])


class _PatchFinder(MetaPathFinder):
    """Finds modules where Python does, and patches them once they have run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _PATCHES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader.exec_module = _then(spec.loader.exec_module, _PATCHES[fullname])
        return spec


def _then(run: Callable[[ModuleType], None], patch: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def exec_module(module: ModuleType) -> None:
        run(module)
        patch(module)

    return exec_module


def _decode_in_float32(module: ModuleType) -> None:
    """Let dense heads such as RPN's make anchors, and boxes from them, in float32."""
    predict = module.BaseDenseHead.predict_by_feat

    @functools.wraps(predict)
    def predict_by_feat(self: Any, *outputs: Any, **kwargs: Any) -> Any:
        return predict(self, *map(_to_float32, outputs), **kwargs)

    module.BaseDenseHead.predict_by_feat = predict_by_feat


def _pool_in_float32(module: ModuleType) -> None:
    """Let regions be mapped to levels, and be pooled, in float32; what is pooled has the dtype of features."""
    extract = module.SingleRoIExtractor.forward

    @functools.wraps(extract)
    def forward(self: Any, feats: Sequence[torch.Tensor], rois: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return extract(self, _to_float32(feats), _to_float32(rois), *args, **kwargs).to(feats[0].dtype)

    module.SingleRoIExtractor.forward = forward


def _to_float32(value: Any) -> Any:
    """A tensor of half precision, or a sequence of some; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    return [_to_float32(item) for item in value] if isinstance(value, list | tuple) else value


_PATCHES = {
    'mmdet.models.dense_heads.base_dense_head': _decode_in_float32,
    'mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor': _pool_in_float32,
}
