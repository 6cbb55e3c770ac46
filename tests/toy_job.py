from collections.abc import Callable
from pathlib import Path

import pytest
from toys import SHARED


@pytest.fixture
def shared_file(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Path of a file of the folder ``shared`` beside the repository; skips the test where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f'no {path}: put it there, then run python -m pytest "{request.node.nodeid}"')
        return path

    return find
