"""The resident memory of this process, as Linux tells it."""

from pathlib import Path


def resident_mib() -> float:
    return _status_mib('VmRSS')


def peak_mib() -> float:
    """The most since ``reset_peak``."""
    return _status_mib('VmHWM')


def reset_peak() -> None:
    Path('/proc/self/clear_refs').write_text('5')


def _status_mib(key: str) -> float:
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{key}:')) / 1024
