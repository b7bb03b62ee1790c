"""Files of a site, and kinds of ``registryd.tables`` for YAML and JSON, where every scalar is the
text as written."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from registryd.oci.errors import UsageError
from registryd.tables import KeyWrong, Kind, key_step, shown, stepping
from registryd.yaml_values import DEEPEST, TEXT_LIMIT

_TRUTHS: Final = {"true": True, "True": True, "TRUE": True} | dict.fromkeys(
    ("false", "False", "FALSE"), False
)
_NUMBER = re.compile(r"[+-]?(?:0o?[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)")
#: Digits of a number.
_DIGITS: Final = 24
#: A letter has four bytes at most.
_BYTES: Final = 4 * TEXT_LIMIT


def text_of(path: Path) -> str:
    """The text of a file, or more of it than is taken. Raises UsageError."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError("is no file")
            return file.read(_BYTES + 1).decode()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"is not UTF-8 text (byte {error.start})") from None


def _at_once(path: str, flags: int) -> int:
    """Open a path that may be a pipe, which would keep us until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def number(low: int, high: int) -> Kind[int]:
    """A whole number, decimal or as YAML writes it in octal (``0644``, ``0o644``) and hex."""

    def read(raw: object) -> int:
        words = str(raw) if isinstance(raw, (str, int)) and not isinstance(raw, bool) else ""
        if len(words) > _DIGITS or not _NUMBER.fullmatch(words):
            raise KeyWrong(f"{shown(raw)} is not a whole number from {low} to {high}")
        sign, digits = (-1 if words[0] == "-" else 1), words.lstrip("+-")
        octal = len(digits) > 1 and digits[0] == "0" and digits[1] not in "xX"
        value = sign * (int(digits.replace("o", ""), 8) if octal else int(digits, 0))
        if not low <= value <= high:
            raise KeyWrong(f"{shown(raw)} is not in the range from {low} to {high}")
        return value

    return read


def yes_or_no(raw: object) -> bool:
    """true or false."""
    if isinstance(raw, bool):
        return raw
    if not isinstance(raw, str) or raw not in _TRUTHS:
        raise KeyWrong(f"{shown(raw)} is not true or false")
    return _TRUTHS[raw]


def mapping_of_texts(raw: object) -> Mapping[str, str]:
    """Names and texts."""
    if not isinstance(raw, dict):
        raise KeyWrong(f"{shown(raw)} is not a mapping")
    for key, value in raw.items():
        with stepping(key_step(key)):
            if not isinstance(value, str):
                raise KeyWrong(f"{shown(value)} is not a text")
    return dict(raw)


def without_nulls(raw: object, depth: int = 0) -> object:
    """The value without the keys that say nothing: ``mounts:`` and ``mounts: null`` are absent."""
    if depth > DEEPEST:
        raise KeyWrong(f"is nested too deeply ({DEEPEST} levels are allowed)")
    if isinstance(raw, dict):
        return {
            key: without_nulls(value, depth + 1) for key, value in raw.items() if value is not None
        }
    if isinstance(raw, list):
        return [without_nulls(value, depth + 1) for value in raw]
    if isinstance(raw, str) and not _encodable(raw):
        raise KeyWrong("has half of a letter (a lone surrogate)")
    return raw


def _encodable(words: str) -> bool:
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True
