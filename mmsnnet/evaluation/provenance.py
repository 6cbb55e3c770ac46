"""Where records come from."""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmsnnet.files import hash_file

PACKAGES = ('mmsnnet', 'torch', 'timm', 'mmengine', 'mmcv', 'mmcv-lite', 'mmsegmentation', 'mmdet', 'mmpretrain')
# Parts of a config that affect the result of a test, and keys in them that do not.
TESTED = ('model', 'test_dataloader', 'test_evaluator')
UNTESTED = {
    'test_dataloader': ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'),
    'test_evaluator': ('output_dir', 'keep_results', 'outfile_prefix', 'depth_scale_factor'),
}


def describe_run(runner: Runner, input_shape: Sequence[int], dtype: str, **settings: Any) -> dict[str, Any]:
    """Describe a runner's test in types that JSON has. Equal tests on one machine have equal descriptions.

    Args:
        input_shape: (height, width) at which costs are measured.
        dtype: the precision it runs in.
        **settings: other settings of the evaluation that affect its result.
    """
    cfg, checkpoint = runner.cfg, runner._load_from
    dataset = runner.test_dataloader.dataset
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return {
        'config': Path(cfg.filename or '').name,
        'config_sha256': _hash(tested_settings(runner)),
        'checkpoint': Path(checkpoint or '').name,
        'checkpoint_sha256': hash_file(Path(checkpoint)) if checkpoint and Path(checkpoint).is_file() else '',
        'weights_sha256': hash_weights(model),
        'data_set': type(dataset).__name__,
        'data_sha256': _hash(list(_samples(dataset))),
        'images': len(dataset),
        'input_shape': list(input_shape),
        'dtype': dtype,
        **settings,
        'tta': isinstance(model, BaseTTAModel),
        'device': describe_device(next(runner.model.parameters()).device),
        'versions': versions(),
    }


def tested_settings(runner: Runner) -> dict[str, Any]:
    """The settings of a runner's config that affect the result of its test, in types that JSON has."""
    settings = json.loads(json.dumps({key: runner.cfg.get(key) for key in TESTED}, default=_as_text))
    for part, names in UNTESTED.items():
        # There may be several evaluators.
        for values in settings[part] if isinstance(settings[part], list) else [settings[part]]:
            for name in names:
                (values or {}).pop(name, None)
    return settings


def _samples(dataset: Dataset) -> Iterator[Any]:
    """For each sample, what the data set says of it, and sizes and modification times of its files."""
    for index in range(len(dataset)) if hasattr(dataset, 'get_data_info') else ():
        info = dataset.get_data_info(index)
        # Unlike Path.is_file, this accepts strings that are too long for a path.
        files = [value for value in info.values() if isinstance(value, str) and os.path.isfile(value)]
        yield info, [(status.st_size, status.st_mtime_ns) for status in map(os.stat, files)]


def _hash(value: Any) -> str:
    """SHA-256 of a value in JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_as_text).encode()).hexdigest()


def _as_text(value: Any) -> str:
    """Text for a value that JSON does not have, without the memory address that Python often shows."""
    return getattr(value, '__qualname__', None) or re.sub(' at 0x[0-9a-f]+', '', str(value))


def describe_device(device: torch.device) -> str:
    """A GPU's name, or the CPU's name and the number of threads that PyTorch uses."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device.type} {cpu_name()}, {torch.get_num_threads()} threads'


def cpu_name() -> str:
    """The CPU's name."""
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
    # The package's metadata lacks the build, as in 2.11.0+cu130.
    found['torch'] = str(torch.__version__)
    return found


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers. They may have changed since the checkpoint was loaded."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
