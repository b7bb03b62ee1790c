"""Tables of a TOML file read into frozen dataclasses, one key at a time.

A field's annotation carries its kind, ``jobs: Annotated[int, whole(1, 256)] = 6``: the function
that turns what TOML gave into the field's value, or says what is wrong. Where the file's word is
not the field's, it stands after the kind: ``Annotated[bool, truth, "fastCheck"]``.

Invariants:
- a key that no field knows is an error, never ignored;
- an error carries the path of its key, and shows no value of a key that it does not know.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from typing_extensions import override

from registryd.oci.errors import UsageError
from registryd.units import (
    RATE_FORMS,
    SIZE_FORMS,
    TIME_FORMS,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

T = TypeVar("T")
Kind = Callable[[object], T]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class KeyWrong(Exception):
    """Raised when a table cannot be read; ``path`` is the way to the key, outermost first."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.path: list[str] = []

    @override
    def __str__(self) -> str:
        where = "".join(self.path).removeprefix(".")
        return f"{where}: {self.args[0]}" if where else str(self.args[0])


def read_table(shape: type[T], raw: object) -> T:
    """An instance of the dataclass from a TOML table. Raises KeyWrong."""
    entries = _expect(dict, raw, "a table")
    hints = {name: hint.__metadata__ for name, hint in _hints(cast(Any, shape)).items()}
    words = {name: hint[1] if len(hint) > 1 else name for name, hint in hints.items()}
    names = {word: name for name, word in words.items()}
    values = {}
    for key, value in entries.items():
        with stepping(key_step(key)):
            if key not in names:
                raise KeyWrong(_unknown(key, list(names)))
            values[names[key]] = hints[names[key]][0](value)
    for each in fields(cast(Any, shape)):
        if each.name not in values and each.default is each.default_factory is MISSING:
            with stepping(key_step(words[each.name])):
                raise KeyWrong("is missing, and has no default")
    try:
        return shape(**values)
    except UsageError as error:
        raise KeyWrong(str(error)) from error


def key_step(key: str) -> str:
    """One step of a key's path, quoted as TOML wants it: ``.daemon``, ``."ghcr.io"``."""
    return f".{key}" if _BARE_KEY.fullmatch(key) else f".{json.dumps(key)}"


# --- kinds -------------------------------------------------------------------------------------


def table(shape: type[T]) -> Kind[T]:
    """A table with the fields of a dataclass."""
    return lambda raw: read_table(shape, raw)


def table_of(name: Callable[[str], str], kind: Kind[T]) -> Kind[Mapping[str, T]]:
    """A table whose keys the user chooses; ``name`` checks a key and gives its final form."""

    def read(raw: object) -> Mapping[str, T]:
        result: dict[str, T] = {}
        for key, value in _expect(dict, raw, "a table").items():
            with stepping(key_step(key)):
                result[name(key)] = kind(value)
        return result

    return read


def list_of(kind: Kind[T], what: str) -> Kind[tuple[T, ...]]:
    """A list; ``what`` says of which things, for the error."""

    def read(raw: object) -> tuple[T, ...]:
        result: list[T] = []
        for number, value in enumerate(_expect(list, raw, f"a list of {what}")):
            with stepping(f"[{number}]"):
                result.append(kind(value))
        return tuple(result)

    return read


def text(check: Callable[[str], str] = str) -> Kind[str]:
    """A text; ``check`` raises UsageError, or gives its final form."""
    return lambda raw: check(_expect(str, raw, "a text in quotes"))


def one_of(*choices: str) -> Kind[str]:
    """One of a few words."""

    def read(raw: object) -> str:
        if raw not in choices:
            allowed = ", ".join(f'"{choice}"' for choice in choices)
            raise KeyWrong(f"{shown(raw)} is not allowed (use one of {allowed})")
        return str(raw)

    return read


def flag(raw: object) -> bool:
    """true or false."""
    return _expect(bool, raw, "true or false")


def whole(low: int, high: int) -> Kind[int]:
    """A whole number."""

    def read(raw: object) -> int:
        number = _expect(int, raw, f"a whole number from {low} to {high}")
        return _within(number, low, high, raw, str)

    return read


def mode(raw: object) -> int:
    """The permission bits of a file; they are octal, and TOML writes that ``0o666``."""
    bits = _expect(int, raw, "a mode such as 0o666")
    if not 0 <= bits <= 0o777:
        raise KeyWrong(f"{shown(raw)} is not a mode from 0o000 to 0o777 (write it as 0o666)")
    return bits


def size(low: int, high: int) -> Kind[int]:
    """A number of bytes."""

    def read(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, (int, str)):
            raise KeyWrong(f"{shown(raw)} is not a size ({SIZE_FORMS})")
        return _within(parse_size(raw), low, high, raw, format_size)

    return read


def rate(low: int, high: int) -> Kind[int]:
    """A number of bytes a second."""

    def read(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, (int, str)):
            raise KeyWrong(f"{shown(raw)} is not a rate ({RATE_FORMS})")
        return _within(parse_rate(raw), low, high, raw, format_rate)

    return read


def duration(low: float, high: float) -> Kind[float]:
    """A number of seconds."""

    def read(raw: object) -> float:
        if not isinstance(raw, str):
            raise KeyWrong(f"{shown(raw)} is not a time ({TIME_FORMS})")
        return _within(parse_duration(raw), low, high, raw, format_duration)

    return read


def absolute(raw: object) -> Path:
    """An absolute path: the file must mean the same wherever the program was started."""
    name = _expect(str, raw, "a path in quotes")
    if not name.startswith("/") or "\0" in name:
        raise KeyWrong(f"{shown(raw)} is not an absolute path (it must begin with /)")
    return Path(name)


def absolute_or_none(raw: object) -> Path | None:
    """An absolute path, or the empty text for none."""
    return None if raw == "" else absolute(raw)


# --- inside ------------------------------------------------------------------------------------


@cache
def _hints(shape: type[Any]) -> dict[str, Any]:
    """The annotations of a dataclass, with their kinds."""
    return get_type_hints(shape, include_extras=True)


@contextmanager
def stepping(step: str) -> Iterator[None]:
    """Puts one more step before the path of what goes wrong inside, as KeyWrong."""
    try:
        yield
    except (KeyWrong, UsageError) as error:
        wrong = error if isinstance(error, KeyWrong) else KeyWrong(str(error))
        wrong.path.insert(0, step)
        raise wrong from error.__cause__


def _expect(kind: type[T], raw: object, what: str) -> T:
    """The value, if it is of this type and no other: true is not a number here."""
    if type(raw) is not kind:
        raise KeyWrong(f"{shown(raw)} is not {what}")
    return raw


def _within(value: T, low: T, high: T, raw: object, form: Callable[[T], str]) -> T:
    if not cast(Any, low) <= value <= cast(Any, high):
        raise KeyWrong(f"{shown(raw)} is not in the range from {form(low)} to {form(high)}")
    return value


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the keys here are {', '.join(known)}"
    return f"unknown key ({hint})"


def shown(raw: object) -> str:
    """A wrong value as the file may have it: on one line, and not without end."""
    try:
        words = json.dumps(raw, default=str)
    except (ValueError, RecursionError):  # thousands of digits, thousands of tables
        words = f"this {type(raw).__name__}"
    return words if len(words) <= 60 else words[:60] + "..."
