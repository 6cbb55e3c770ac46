import gc
import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import quick_mmengine  # noqa: F401
import torch
from mmengine.optim.optimizer import amp_optimizer_wrapper
from toy_classification_job import classes_root, make_classification_config  # noqa: F401
from toy_detection_job import coco_root, make_detection_config  # noqa: F401
from toy_job import data_root, make_config  # noqa: F401
from toy_rooms import make_rooms_config, rooms_root  # noqa: F401
from toys import SHARED

# Toy tensors gain nothing from threads, and wait for them on a busy machine.
torch.set_num_threads(1)
gc.freeze()


@pytest.fixture
def amp_on_cpu(monkeypatch):
    """Let MMEngine's wrapper for mixed precision run on a processor, with a true loss scale."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', partial(torch.amp.GradScaler, 'cpu'))


@pytest.fixture
def run_tool(monkeypatch):
    """Run a tool's ``main`` in this process; a user's mistake comes as ``SystemExit`` with the one line shown."""

    def run(name: str, *args) -> None:
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, args)])
        importlib.import_module(f'tools.{name}').main()

    return run


@pytest.fixture
def shared_file(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Path of a file of the folder ``shared`` beside the repository; skips the test where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f'no {path}: put it there, then run python -m pytest "{request.node.nodeid}"')
        return path

    return find
