"""Checks of single settings. Each refuses a value in one line: the value, what is allowed, what to do."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from mmsnnet.errors import UserError


def check_int(name: str, value: Any, low: int, high: int | None = None, meaning: str = '') -> int:
    """A whole number from ``low`` to ``high``; True and False are none.

    Args:
        meaning: what to say of the allowed values, e.g. ``'0 trains the full matrix'``.

    Raises:
        UserError: another value.
    """
    is_int = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_int or value < low or (high is not None and value > high):
        allowed = f'{low} or more' if high is None else f'from {low} to {high}'
        raise UserError(f'{name} must be a whole number, {allowed}{_because(meaning)}, got {value!r}')
    return int(value)


def check_number(name: str, value: Any, low: float = -math.inf, above: float = -math.inf, meaning: str = '') -> float:
    """A finite number of at least ``low``, or more than ``above``; True and False are none.

    Raises:
        UserError: another value.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or value <= above:
        limits = f', {low:g} or more' if low > -math.inf else f' above {above:g}' if above > -math.inf else ''
        raise UserError(f'{name} must be a number{limits}{_because(meaning)}, got {value!r}')
    return value


def check_list(name: str, value: Any, example: str) -> list:
    """The items of a list or tuple.

    Raises:
        UserError: another value; ``example`` shows what to write.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise UserError(f'{name} must be a list such as {example}, got {value!r}')
    return list(value)


def check_word(name: str, value: Any, allowed: Sequence[str]) -> str:
    """One of the allowed words.

    Raises:
        UserError: another value.
    """
    if value not in allowed:
        raise UserError(f'{name} must be one of {", ".join(map(repr, allowed))}, got {value!r}')
    return value


def _because(meaning: str) -> str:
    return f' ({meaning})' if meaning else ''


def name_of_type(type_: str | type) -> str:
    """The name of a config's ``type``, which may be the class itself, without the scope or module before it."""
    return (type_ if isinstance(type_, str) else type_.__name__).rpartition('.')[2]


def is_named(part: Mapping, name: str) -> bool:
    """Whether a part of a config is of the class of this name."""
    return name_of_type(part.get('type', '')) == name
