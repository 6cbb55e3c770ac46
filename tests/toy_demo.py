"""A trained toy model of each task, with records, for the demo."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmsnnet.building import build_model
from mmsnnet.demo import RoutePredictor
from mmsnnet.models import find_backbone
from mmsnnet.stitching import Record

TASKS = {
    'segmentation': 'make_config',
    'depth': 'make_rooms_config',
    'detection': 'make_detection_config',
    'classification': 'make_classification_config',
}


def write_checkpoint(cfg: Config, path: Path, meta: dict | None = None) -> Path:
    """Random weights of a config's model."""
    torch.manual_seed(0)
    torch.save({'state_dict': build_model(cfg.copy()).state_dict(), 'meta': meta or {}}, path)
    return path


def make_records(predictor: RoutePredictor, metric: str = 'mIoU') -> list[Record]:
    """Of all routes: each higher id costs and scores more."""
    return [
        Record(
            route.id,
            route.name,
            route.kind,
            gflops=1.0 + route.id,
            params_m=1.0,
            metrics={metric: 10.0 + route.id},
            latency_ms=2.0 + route.id,
        )
        for route in find_backbone(predictor.model).space
    ]


@pytest.fixture
def make_predictor(request, tmp_path) -> Callable[[str], RoutePredictor]:
    def make(task: str) -> RoutePredictor:
        cfg = request.getfixturevalue(TASKS[task])()
        return RoutePredictor(cfg, str(write_checkpoint(cfg, tmp_path / f'{task}.pth')))

    return make
