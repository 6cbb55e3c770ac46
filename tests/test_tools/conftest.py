"""The command lines on a toy job."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config
from toy_job import assert_one_line
from toy_pairs import Pair


@pytest.fixture
def config_file(make_config, tmp_path):
    """The toy config as a file; keywords are merged into it."""

    def write(**changes) -> Path:
        path = tmp_path / 'toy.py'
        make_config(**changes).dump(path)
        return path

    return write


# Of the one training whose result all tests share.
_checkpoints: dict[str, bytes] = {}


@pytest.fixture
def trained(config_file, run_tool) -> tuple[Path, Path]:
    """Config and checkpoint of a toy job trained for four iterations."""
    config = config_file()
    work_dir = config.parent / 'work_dir'
    if not _checkpoints:
        run_tool('train', config)
        _checkpoints.update({path.name: path.read_bytes() for path in work_dir.glob('iter_*.pth')})
    work_dir.mkdir(exist_ok=True)
    for name, content in _checkpoints.items():
        (work_dir / name).write_bytes(content)
    return config, work_dir / 'iter_4.pth'


@pytest.fixture
def make_pair(make_config, make_detection_config, tmp_path) -> Callable[..., Pair]:
    """Write two finished models of a kind, each after a change of its config."""

    def make(kind, change: Callable[[Config, int], None] = lambda cfg, index: None) -> Pair:
        configs = []
        for index in range(2):
            configs.append(kind(make_config, make_detection_config, index))
            change(configs[-1], index)
        folder = tmp_path / 'pair'
        folder.mkdir(exist_ok=True)
        return Pair(folder, configs)

    return make


@pytest.fixture
def stitch(run_tool, tmp_path):
    """Run the tool; returns the config it wrote."""

    def run(pair: Pair, *words: str) -> Config:
        run_tool('stitch', *pair.words, '--out', tmp_path / 'out' / 'stitched.py', *words)
        return Config.fromfile(tmp_path / 'out' / 'stitched.py')

    return run


@pytest.fixture
def assert_refused(run_tool, tmp_path):
    """Run the tool and expect one line of error, and no files."""

    def run(pair: Pair, message: str, words: list[Path] | None = None) -> None:
        out = tmp_path / 'refused.py'
        with pytest.raises(SystemExit) as stopped:
            run_tool('stitch', *(words or pair.words), '--out', out)
        assert_one_line(stopped.value, message)
        assert not out.exists()
        assert not out.with_suffix('.pth').exists()

    return run
