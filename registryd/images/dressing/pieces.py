"""What is put into an image, and how words of an image's configuration become words of a shell.

Invariants:
- a text that was quoted is that text for every POSIX shell, whatever is in it: nothing in it is
  ever run or replaced;
- a variable that is given out has a name that a shell takes, and a value that can be in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from registryd.images.layers.headers import FILE, FOLDER, SYMLINK

SCRIPT: Final = 0o755
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Piece(NamedTuple):
    """A file, a folder or a link: its path from the top of the image, and what is in it."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    kind: bytes = FILE


def folder(path: str, mode: int = 0o755) -> Piece:
    """An empty folder."""
    return Piece(path, mode=mode, kind=FOLDER)


def link(path: str, target: str) -> Piece:
    """A symbolic link."""
    return Piece(path, target.encode(), 0o777, SYMLINK)


def script(path: str, *lines: str) -> Piece:
    """A program for sh."""
    return Piece(path, "\n".join(("#!/bin/sh", *lines, "")).encode(), SCRIPT)


def quoted(text: str) -> str:
    """This text as one word of a POSIX shell (XCU 2.2.2, single-quotes)."""
    return "'" + text.replace("'", "'\\''") + "'"


def words(texts: Iterable[str]) -> str:
    """These texts as words of a shell, as far as a process can have them: no NUL is in one."""
    return " ".join(quoted(text.replace("\0", "")) for text in texts)


def variables(env: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names and values of ``NAME=VALUE``: each name once with its last value, in order.

    Names that are no names of a shell, and values that no process can have, are left out.
    """
    found: dict[str, str] = {}
    for each in env:
        name, equals, value = each.partition("=")
        if equals and _NAME.fullmatch(name) and "\0" not in value:
            found[name] = value
    yield from found.items()


def unless_set(name: str, value: str) -> str:
    """A line that gives a variable its value where the environment has none.

    What a shell has of itself (UID, IFS) is left alone: some of it cannot even be named here.
    """
    return f'[ -n "${{{name}-}}" ] || export {name}={quoted(value)}'
