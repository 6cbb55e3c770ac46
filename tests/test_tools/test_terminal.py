"""What reaches the terminal of a command line, and what only the log file of its run."""

import subprocess
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from mmengine.runner import find_latest_checkpoint

from mmsnnet.terminal import quiet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def log(tmp_path) -> Path:
    """Where the logger writes that ``open_log`` makes."""
    return tmp_path / 'run.log'


def open_log(path: Path, level: str = 'INFO') -> MMLogger:
    """A logger as a runner makes it."""
    return MMLogger.get_instance('run', log_file=str(path), log_level=level)


def warn(text: str, filename: str = 'library.py') -> None:
    warnings.warn_explicit(text, UserWarning, filename, 7)


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    """Neither loggers of other tests nor options of this interpreter must decide."""
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
    monkeypatch.setattr(sys, 'warnoptions', [])


def test_training_shows_its_progress_and_logs_the_rest(config_file):
    config = config_file()
    command = [sys.executable, 'tools/train.py', str(config), '--progress', '--resume']
    process = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert process.stdout == ''
    lines = [line.strip() for line in process.stderr.replace('\r', '\n').splitlines()]
    assert [line for line in lines if line and not line.startswith(('train: ', 'validate: '))] == []
    (path,) = (config.parent / 'work_dir').glob('*/*.log')
    text = path.read_text()
    for part in ('UserWarning: ``build_loss``', 'Config:\n', 'Did not find last_checkpoint', 'The prefix is not set'):
        assert part in text
    assert text.count('Iter(train)') == 4


def test_warnings_of_before_the_log_file_enter_it(log, capsys):
    with quiet():
        warn('early')
        open_log(log)
        warn('late')
    assert [line.split(' - ', 2)[2] for line in log.read_text().splitlines()] == [
        'WARNING - library.py:7: UserWarning: early',
        'WARNING - library.py:7: UserWarning: late',
    ]
    assert capsys.readouterr() == ('', '')


def test_what_cuda_warns_about_stays_on_the_terminal(log):
    open_log(log)
    with pytest.warns(UserWarning, match='the driver is too old'), quiet():
        warn('the driver is too old', '/lib/torch/cuda/__init__.py')
    assert log.read_text() == ''


def test_python_can_be_told_to_show_warnings(log, monkeypatch):
    open_log(log)
    monkeypatch.setattr(sys, 'warnoptions', ['default'])
    with pytest.warns(UserWarning, match='asked for'), quiet():
        warn('asked for')


def test_lists_go_to_the_file_and_results_to_both(log, capsys):
    with quiet():
        logger = open_log(log)
        for text in ('Config:\na = 1', 'Hooks will be executed in the following order:', 'mIoU 12'):
            logger.info(text)
        find_latest_checkpoint(str(log.parent))
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1
    assert shown[0].endswith('mIoU 12')
    for text in ('a = 1', 'Hooks will be executed', 'mIoU 12', 'Did not find last_checkpoint'):
        assert text in log.read_text()


def test_a_higher_level_holds_for_the_terminal_alone(log, capsys):
    with quiet():
        logger = open_log(log, 'WARNING')
        logger.info('loss 3')
        logger.warning('no gradient')
    assert 'no gradient' in capsys.readouterr().out
    assert 'loss 3' in log.read_text()
    assert 'no gradient' in log.read_text()


def test_everything_is_as_before_afterwards(log, capsys):
    with quiet():
        logger = open_log(log)
    with pytest.warns(UserWarning, match='afterwards'):
        warn('afterwards')
    logger.info('Config:\n')
    assert 'Config:' in capsys.readouterr().out
