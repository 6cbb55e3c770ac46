"""Where records come from."""

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

PACKAGES = ('mmsnnet', 'torch', 'timm', 'mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation', 'mmdet')
# What of a config decides the result of a test.
TESTED = ('model', 'test_dataloader', 'test_evaluator')


def describe_run(runner: Runner, input_shape: Sequence[int]) -> dict[str, Any]:
    """What a runner tests, as JSON can tell it: the same again for the same test on the same machine."""
    cfg, checkpoint = runner.cfg, runner._load_from
    tested = {key: cfg.get(key) for key in TESTED}
    dataset = runner.test_dataloader.dataset
    return {
        'config': Path(cfg.filename or '').name,
        'config_sha256': hashlib.sha256(json.dumps(tested, sort_keys=True, default=str).encode()).hexdigest(),
        'checkpoint': Path(checkpoint or '').name,
        'checkpoint_sha256': hash_file(Path(checkpoint)) if checkpoint and Path(checkpoint).is_file() else '',
        'data_set': type(dataset).__name__,
        'images': len(dataset),
        'input_shape': list(input_shape),
        'device': describe_device(next(runner.model.parameters()).device),
        'versions': versions(),
    }


def describe_device(device: torch.device) -> str:
    """A GPU's name, or the kind of processor and how many threads PyTorch uses."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device.type} {processor()}, {torch.get_num_threads()} threads'


def processor() -> str:
    """The processor's name."""
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {'python': platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    # The package index knows it without the build: 2.11.0+cu130.
    found['torch'] = str(torch.__version__)
    return found


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
