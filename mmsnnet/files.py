"""Reading and writing files."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

IMAGE_ENDINGS = ('.jpeg', '.jpg', '.png', '.webp')


def is_url(path: str) -> bool:
    """Whether a path is one of a server, which cannot be looked up here."""
    return '://' in path


def check_file(path: str, what: str) -> str:
    """The path of a local file or URL.

    Raises:
        FileNotFoundError: no such file.
    """
    if not is_url(path) and not Path(path).is_file():
        raise FileNotFoundError(f'no {what} at {path!r}')
    return path


def find_images(folder: Path) -> list[Path]:
    """Images of a folder, by name.

    Raises:
        FileNotFoundError: there are none.
    """
    images = sorted(path for path in folder.glob('*') if path.suffix.lower() in IMAGE_ENDINGS)
    if not images:
        raise FileNotFoundError(f'no images ({", ".join(IMAGE_ENDINGS)}) in {str(folder)!r}')
    return images


def write_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a file beside ``path``, then put it in place: ``path`` is never half written.

    Raises:
        OSError: the file cannot be written, for instance because the disk is full; what ``path`` held is still there.
    """
    # Its ending stays: some writers go by it.
    partial = path.with_name(f'partial-{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        return partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        reason = error.strerror or error
        raise OSError(error.errno, f'cannot write {path}: {reason}; what was there before is unchanged') from error


def write_json(path: Path, value: object) -> Path:
    """Write a value as JSON, by ``write_file``. Numbers that are not finite become null."""
    text = json.dumps(finite_or_none(value), indent=1, allow_nan=False) + '\n'
    return write_file(path, lambda partial: partial.write_text(text))


def finite_or_none(value: object) -> object:
    """The same value with None in place of NaN and infinite numbers, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
