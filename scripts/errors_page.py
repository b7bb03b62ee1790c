"""Writes docs/errors.md: every exit code and every error, with what to do.

Run it after an error was added (``python -m scripts.errors_page``); a test compares the page with
the classes, and holds that each has its cure in ``scripts/error_cures.py``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import cache
import registryd
from cache.errors import CacheError, Fault
from registryd.oci.errors import RegistryError, UsageError
from registryd.ports import TransportError
from scripts.error_cures import CURES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
CODES = {
    0: "done",
    1: "failed",
    2: "not found",
    3: "authentication, or no access",
    4: "rate limited",
    5: "wrong bytes: a digest or a size is not what it has to be",
    6: "network, or time-out",
    7: "partly done: each part that failed was told",
    64: "wrong usage, or a file of settings that is wrong",
    126: "`run`, `exec`: the command is there and cannot be run",
    127: "`run`, `exec`: the image has no such command",
}
HEAD = """\
# Exit codes and errors

Written by `python -m scripts.errors_page` from the classes of the code.

An error is one line on stderr: what, where, what to do. Scripts look at the exit code; clients of
`/v2` look at the code of the [distribution specification][spec], which is in the third column. The
first column is the name of the class, for who reads the code.

[spec]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes

## Exit codes

| code | means |
|---|---|
"""
TAIL = """\
| 128 + N | ended by the signal N, tidied up: 130 is Ctrl-C |

`run`, `exec` and `shell` end with the code of the command itself.

"""
#: Whose fault it is.
KINDS = (
    (CacheError, "Content or the disk"),
    (UsageError, "What was asked, or written in a file"),
    (RegistryError, "A registry, or access"),
    (TransportError, "The network"),
    (Fault, "The rest"),
)


def errors() -> list[type[Fault]]:
    """Every error of the project, by name."""
    for package in (cache, registryd):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    roots = {kind for kind, _ in KINDS} - {UsageError, RegistryError, TransportError}
    return sorted(set(_below(Fault)) - roots, key=lambda each: each.__name__)


def _below(root: type[Fault]) -> Iterator[type[Fault]]:
    for each in root.__subclasses__():
        if each.__module__.partition(".")[0] in ("cache", "registryd"):
            yield each
            yield from _below(each)


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code} | {text} |\n" for code, text in CODES.items())
    found, parts = errors(), [HEAD, codes, TAIL]
    for kind, title in KINDS:
        mine = [each for each in found if issubclass(each, kind)]
        found = [each for each in found if each not in mine]
        parts.append(
            f"## {title}\n\n| error | exit | code | | what to do |\n|---|---|---|---|---|\n"
        )
        parts += [_row(each) for each in mine]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _row(error: type[Fault]) -> str:
    text = " ".join((error.__doc__ or "").partition("\n\n")[0].split())
    text = text.replace("``", "`").removeprefix("Raised ")
    text = f"{text[0].upper()}{text[1:]}".replace("|", "\\|")
    cure = CURES.get(error.__name__, "")
    return f"| `{error.__name__}` | {error.exit_code} | `{error.code}` | {text} | {cure} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
