"""What a command line shows: its own words, and not what the libraries below it tell developers."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import checkpoint

# How MMEngine's lists and its advice to developers begin.
_FOR_THE_FILE = re.compile(
    r'\n-+\nSystem environment:|Config:\n|Hooks will be executed|paramwise_options --|\S+ is skipped since its'
    r' requires_grad|Distributed training is not used, all SyncBatch|Loads checkpoint by|Did not find last_checkpoint'
    r'|The prefix is not set in metric class|"FileClient" will be deprecated|"HardDiskBackend" is the alias'
    r'|`save_param_scheduler` is True but'
)


@contextmanager
def quiet() -> Iterator[None]:
    """Let the run's log file have all from level INFO on, and the terminal only what helps who reads it.

    The file alone gets Python warnings, MMEngine's lists, and lines below the config's ``log_level``. Tools that write
    no log file drop them. Warnings of ``torch.cuda`` are about the user's machine and stay on the terminal; with
    `python -W default`, or any other ``-W``, all warnings do.
    """
    file, show = _LogFile(), warnings.showwarning
    print_log, call_handlers = checkpoint.print_log, MMLogger.callHandlers

    def show_warning(
        message: Any, category: type[Warning], filename: str, lineno: int, *more: Any, **options: Any
    ) -> None:
        if '/torch/cuda/' in filename.replace('\\', '/'):
            show(message, category, filename, lineno, *more, **options)
        else:
            file.write(f'{filename}:{lineno}: {category.__name__}: {message}', logging.WARNING)

    def print_or_write(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
        if logger is None and _FOR_THE_FILE.match(str(msg)):
            file.write(str(msg), level)
        else:
            print_log(msg, logger, level)

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.showwarning = show_warning
        checkpoint.print_log, MMLogger.callHandlers = print_or_write, _call_handlers
        try:
            yield
        finally:
            checkpoint.print_log, MMLogger.callHandlers = print_log, call_handlers
            file.flush()


class _LogFile:
    """The log file of the run. Holds back what comes before the runner opens it."""

    def __init__(self) -> None:
        self._held: list[logging.LogRecord] = []

    def write(self, text: str, level: int) -> None:
        self._held.append(logging.LogRecord('libraries', level, '', 0, text, None, None))
        self.flush()

    def flush(self) -> None:
        # Asked for the current logger, MMEngine would make one.
        logger = MMLogger.get_current_instance() if MMLogger._instance_dict else None
        handlers = [handler for handler in logger.handlers if _is_file(handler)] if logger else []
        if handlers:
            for record in self._held:
                for handler in handlers:
                    handler.handle(record)
            self._held.clear()


def _call_handlers(logger: MMLogger, record: logging.LogRecord) -> None:
    """Pass a record to the file and, if it is for people and at least of the logger's level, to the terminal."""
    for handler in logger.handlers:
        is_noise = not _is_file(handler) and _FOR_THE_FILE.match(record.getMessage())
        if record.levelno >= lowest_level(handler) and not is_noise:
            handler.handle(record)


def lowest_level(handler: logging.Handler) -> int:
    """The level from which a handler gets the records of MMEngine's loggers. Files get more within ``quiet``."""
    is_quiet = MMLogger.callHandlers is _call_handlers
    return min(handler.level, logging.INFO) if is_quiet and _is_file(handler) else handler.level


def _is_file(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.FileHandler)
