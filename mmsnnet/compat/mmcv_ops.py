"""Lets ``import mmcv.ops`` work where mmcv has no compiled ops, and stays out of the way where it has.

The stand-in for ``mmcv._ext`` is offered by a finder that Python asks after those that know the installed modules, and
Python looks for a submodule only after it imported the parent. So compiled mmcv wins by construction, nothing happens
where mmcv is missing, and whoever looks without importing (``pkgutil.find_loader``, in mmcv and mmengine) finds it.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

_STAND_IN = Path(__file__).with_name('mmcv_ext.py')


class StandInFinder(MetaPathFinder):
    """Finds ``mmcv._ext`` in a file of this package."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_file_location(fullname, _STAND_IN) if fullname == 'mmcv._ext' else None


def install() -> None:
    """Offer the stand-in to whoever imports ``mmcv._ext`` from now on."""
    sys.meta_path.append(StandInFinder())
