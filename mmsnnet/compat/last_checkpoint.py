"""The latest checkpoint of a run, also of one that was killed while it wrote down which that is.

mmengine 0.10.7 empties `last_checkpoint` before it writes the new name there. Killed in between, a run could not be
resumed: "FileNotFoundError:  can not be found". By then the checkpoint is complete, and the newest of the folder.
"""

import functools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from mmengine.runner import checkpoint as mmengine_checkpoint


def install() -> None:
    """Make mmengine find the latest checkpoint without its name."""
    find = mmengine_checkpoint.find_latest_checkpoint
    finder = _find_without_name(find)
    for module in list(sys.modules.values()):  # all who hold the function by import
        if getattr(module, '__dict__', {}).get('find_latest_checkpoint') is find:
            module.find_latest_checkpoint = finder


def _find_without_name(find: Callable[[str], str | None]) -> Callable[[str], str | None]:
    @functools.wraps(find)
    def find_latest_checkpoint(path: str) -> str | None:
        latest = find(path)
        if latest != '':
            return latest
        numbered = [
            (int(match[1]), file)
            for file in Path(path).glob('*.pth')
            if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)', file.stem))
        ]
        return str(max(numbered)[1]) if numbered else None

    return find_latest_checkpoint
