"""One file of a site's modules: what MPI, a GPU or a file system of this site needs (pure).

Invariants:
- a file is taken whole or not at all: what is wrong is ModuleWrong of one line, with the way to
  the key and what is allowed there;
- what is here is what the file says; wildcards and variables are still in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from registryd.launch.cdi import parse_name
from registryd.launch.edits import EnvChange
from registryd.launch.libraries import POLICIES
from registryd.launch.plain_values import mapping_of_texts, without_nulls, yes_or_no
from registryd.oci.errors import UsageError
from registryd.tables import (
    KeyWrong,
    Kind,
    key_step,
    list_of,
    one_of,
    read_table,
    shown,
    stepping,
    table,
    text,
)
from registryd.yaml_values import read_yaml

#: Words of ``--module`` that cannot be a module's name.
NONE, DEFAULT = "none", "default"
#: Letters of a help text: it is one line of a table.
HELP_LIMIT: Final = 200

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: A path may begin with a variable, whose value is looked at when it is known.
_PATH = re.compile(r"(?:/|\$\{)[^\0:]*")
_MARK: Final = "?"


class ModuleWrong(UsageError):
    """Raised when a file is no module; names the key and what is allowed."""


def module_name(words: str) -> str:
    """The name of a module. Raises UsageError."""
    if not _NAME.fullmatch(words) or words in (NONE, DEFAULT):
        raise UsageError(
            f"{words[:60]!r} is no name of a module (letters, digits, _ . -; not none or default)"
        )
    return words


def _pattern(words: str) -> str:
    if not _PATTERN.fullmatch(words):
        raise UsageError(f"{words[:60]!r} is no variable (write NAME, or NAME* for all that begin)")
    return words


def _path(words: str) -> str:
    if not _PATH.fullmatch(words) or ".." in words.split("/"):
        raise UsageError(f"{words[:60]!r} is not an absolute path without .. and :")
    return words


def _device(words: str) -> str:
    parse_name(words)
    return words


def _help(words: str) -> str:
    if len(words) > HELP_LIMIT or not words.isprintable():
        raise UsageError(f"is not one line of at most {HELP_LIMIT} letters")
    return words


@dataclass(frozen=True, slots=True)
class Place:
    """Files of this machine, and where they are in the image; an empty target means the same."""

    source: Annotated[str, text(_path)]
    target: Annotated[str, text(_path)] = ""
    mode: Annotated[str, one_of("ro", "rw")] = "rw"
    optional: Annotated[bool, yes_or_no] = False


def _place(raw: object) -> Place:
    """``SOURCE[?][:TARGET[:ro|rw]]``, or a mapping that says the same."""
    if not isinstance(raw, str):
        return read_table(Place, raw)
    words = raw.split(":")
    if len(words) > 3:
        raise KeyWrong(f"{shown(raw)} is not SOURCE[?][:TARGET[:ro|rw]]")
    source, target, mode = (*words, "", "")[:3]
    optional = source.endswith(_MARK)
    plain = {"source": source.removesuffix(_MARK), "optional": optional}
    return read_table(
        Place, plain | ({"target": target} if target else {}) | ({"mode": mode} if mode else {})
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """A library of this machine, and the soname whose place it takes (empty: its own)."""

    path: Annotated[str, text(_path)]
    soname: Annotated[str, text(), "as"] = ""
    optional: Annotated[bool, yes_or_no] = False


def _wish(raw: object) -> Wish:
    """A path, with ``?`` where it may be missing; or a mapping."""
    if not isinstance(raw, str):
        return read_table(Wish, raw)
    plain = {"path": raw.removesuffix(_MARK), "optional": raw.endswith(_MARK)}
    return read_table(Wish, plain)


@dataclass(frozen=True, slots=True)
class LibraryWishes:
    """Libraries that take the place of the image's, and such as come besides."""

    abi: Annotated[str, one_of(*POLICIES)] = "major"
    replace: Annotated[tuple[Wish, ...], list_of(_wish, "libraries")] = ()
    add: Annotated[tuple[Wish, ...], list_of(_wish, "libraries")] = ()
    search: Annotated[tuple[str, ...], list_of(text(_path), "folders")] = ()
    dependencies: Annotated[bool, yes_or_no] = True


def _variables(raw: object) -> Mapping[str, str]:
    """Variables and their values."""
    found = mapping_of_texts(raw)
    for name in found:
        with stepping(key_step(name)):
            if not _VARIABLE.fullmatch(name):
                raise KeyWrong("is no name of a variable (letters, digits and _)")
            EnvChange(name, found[name])
    return found


_patterns: Kind[tuple[str, ...]] = list_of(text(_pattern), "variables")


@dataclass(frozen=True, slots=True)
class Variables:
    """What is done to the environment, in the order of these fields."""

    pass_: Annotated[tuple[str, ...], _patterns, "pass"] = ()
    unset: Annotated[tuple[str, ...], _patterns] = ()
    set: Annotated[Mapping[str, str] | None, _variables] = None
    default: Annotated[Mapping[str, str] | None, _variables] = None
    prepend: Annotated[Mapping[str, str] | None, _variables] = None
    append: Annotated[Mapping[str, str] | None, _variables] = None


def _values(raw: object) -> tuple[str, ...]:
    """One value or several; ``*`` is any."""
    return list_of(text(), "texts")([raw] if isinstance(raw, str) else raw)


def _conditions(raw: object) -> Mapping[str, tuple[str, ...]]:
    """A variable or several that must be set, or a mapping of them to the values they may have."""
    if isinstance(raw, dict):
        found = {}
        for name, value in raw.items():
            with stepping(key_step(name)):
                found[_pattern(name)] = _values(value)
        return found
    return {_pattern(name): ("*",) for name in _values(raw)}


@dataclass(frozen=True, slots=True)
class When:
    """What must hold for a default module to be taken: all of it."""

    env: Annotated[Mapping[str, tuple[str, ...]] | None, _conditions] = None
    paths: Annotated[tuple[str, ...], list_of(text(_path), "paths")] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module, as its file has it."""

    name: Annotated[str, text(module_name)]
    help: Annotated[str, text(_help)] = ""
    default: Annotated[bool, yes_or_no] = False
    when: Annotated[When, table(When)] = When()
    requires: Annotated[tuple[str, ...], list_of(text(module_name), "modules")] = ()
    conflicts: Annotated[tuple[str, ...], list_of(text(module_name), "modules")] = ()
    variables: Annotated[tuple[str, ...], _patterns] = ()
    binds: Annotated[tuple[Place, ...], list_of(_place, "binds")] = ()
    devices: Annotated[tuple[Place, ...], list_of(_place, "devices")] = ()
    cdi: Annotated[tuple[str, ...], list_of(text(_device), "devices")] = ()
    env: Annotated[Variables, table(Variables)] = Variables()
    libraries: Annotated[LibraryWishes, table(LibraryWishes)] = LibraryWishes()

    def __post_init__(self) -> None:
        if self.when != When() and not self.default:
            raise UsageError("has when, which is asked of a module with default: true only")
        if self.name in (*self.requires, *self.conflicts):
            raise UsageError("requires or conflicts with itself")
        both = set(self.requires) & set(self.conflicts)
        if both:
            raise UsageError(f"requires {min(both)} and conflicts with it")


def read_module(words: str, *, stem: str) -> Module:
    """The module that a text is; ``stem`` is its name where it says none. Raises ModuleWrong."""
    try:
        raw = without_nulls(read_yaml(words))
        if not isinstance(raw, dict):
            raise UsageError("is no mapping (it needs help:, binds:, env: or libraries:)")
        return read_table(Module, {"name": stem} | raw)
    except (KeyWrong, UsageError) as error:
        raise ModuleWrong(str(error)) from None
