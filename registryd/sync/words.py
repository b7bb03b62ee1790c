"""Kinds of values in files of images, whose scalars are texts (see ``registryd.tables``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from registryd.oci.errors import UsageError
from registryd.oci.platform import Platform
from registryd.sync.tag_choice import pattern
from registryd.sync.versions import VersionRange
from registryd.tables import KeyWrong, Kind, key_step, shown

T = TypeVar("T")

_TRUTHS: Final = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
#: ``{{env "NAME"}}``, and whatever else stands in double braces.
_TEMPLATE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ENV: Final = re.compile(r"""\s*env\s+(?:"([^"]*)"|`([^`]*)`)\s*""")


def word(check: Callable[[str], T]) -> Kind[T]:
    """One text; ``check`` raises UsageError, or gives its final form."""

    def read(raw: object) -> T:
        if not isinstance(raw, str):
            raise KeyWrong(f"{shown(raw)} is not one word")
        return check(raw)

    return read


def _itself(text: str) -> str:
    return text


plain: Final = word(_itself)


def hidden(raw: object) -> str:
    """One text that no error may show."""
    if not isinstance(raw, str):
        raise KeyWrong("is not one word")
    return raw


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise UsageError(f"{shown(text)} is neither true nor false")
    return _TRUTHS[text.lower()]


truth: Final = word(_truth)


def number(low: int, high: int) -> Kind[int]:
    """A whole number."""

    def check(text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or not low <= int(text) <= high:
            raise UsageError(f"{shown(text)} is not a number from {low} to {high}")
        return int(text)

    return word(check)


def _pattern(text: str) -> str:
    pattern(text)
    return text


regular: Final = word(_pattern)
versions: Final = word(VersionRange.parse)
platform: Final = word(Platform.parse)


def anything(raw: object) -> None:
    """What is looked at by nobody."""


def sift(
    members: object, where: str, noted: Mapping[str, str], refused: Mapping[str, str]
) -> tuple[object, list[str]]:
    """A mapping without what is only noted, and the notes. Raises KeyWrong for what is refused.

    A key that is there and says nothing (null, empty, false) is no fault.
    """
    if not isinstance(members, dict):
        return members, []
    notes, left = [], {}
    for key, value in members.items():
        silent = value in (None, "", [], {}, "false")
        if key in refused and not silent:
            error = KeyWrong(refused[key])
            error.path.append(key_step(key))
            raise error
        if key in noted or key in refused:
            if not silent:
                notes.append(f"{where}{key_step(key)}: {noted.get(key, '')}")
            continue
        left[key] = value
    return left, notes


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """A text with ``{{env "NAME"}}`` replaced. Raises UsageError for any other template."""

    def value(match: re.Match[str]) -> str:
        named = _ENV.fullmatch(match[1])
        if named is None:
            raise UsageError(
                f'{match[0][:60]} is not known here (only {{{{env "NAME"}}}}, in creds)'
            )
        name = named[1] or named[2] or ""
        if name not in environ:
            raise UsageError(f"the environment has no {name[:60]}")
        return environ[name]

    return _TEMPLATE.sub(value, text)


def no_template(text: str) -> str:
    """This text. Raises UsageError where it has a template."""
    return expanded(text, {}) if "{{" in text else text
