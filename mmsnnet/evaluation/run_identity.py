"""Whether a run may resume what an interrupted one has left, and if not, what differs."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

_TOLD = 3


def as_json(value: Any) -> Any:
    """The value as it is read back from JSON, which has neither tuples nor infinite numbers."""
    return json.loads(json.dumps(value), parse_constant=str)


def differences(before: Any, now: Any, name: str = '') -> Iterator[str]:
    """Each setting that differs, by its dotted name, with both values."""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        before, now = dict(enumerate(before)), dict(enumerate(now))
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            yield from differences(before.get(key), now.get(key), f'{name}.{key}' if name else str(key))
    elif before != now:
        yield f'{name} was {_short(before)}, now it is {_short(now)}'


def tell_differences(found: Sequence[str]) -> str:
    """The first differences, and the number of others. Settings come before hashes."""
    ordered = sorted(found, key=lambda difference: '_sha256' in difference)
    more = f'; and {len(found) - _TOLD} more differences' if len(found) > _TOLD else ''
    return '; '.join(ordered[:_TOLD]) + more


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
