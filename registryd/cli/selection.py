"""Which of a list of names are shown: those after one, that match, and at most so many (pure).

Invariant: a pattern means the whole name, as if it began with ^ and ended with $.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from registryd.cli.arguments import Parser, count
from registryd.oci.errors import UsageError

#: Tags that only say which digest something belongs to: referrers, signatures, attestations.
_DIGEST_TAG = re.compile(r"sha(?:256-[0-9a-f]{64}|512-[0-9a-f]{64,128})(?:[.-].*)?")


def list_flags(parser: Parser) -> None:
    """The flags of commands that list names."""
    group = parser.add_argument_group("which ones")
    group.add_argument("-n", "--limit", type=count, metavar="N", default=None, help="at most N")
    group.add_argument("--last", metavar="NAME", default="", help="those after NAME")
    group.add_argument(
        "--include",
        metavar="REGEX",
        action="append",
        default=[],
        help="those that match as a whole; may be repeated",
    )
    group.add_argument(
        "--exclude", metavar="REGEX", action="append", default=[], help="but not those that match"
    )


def pages(options: argparse.Namespace) -> dict[str, str]:
    """What can be left to the registry: a limit counts only what no pattern leaves out."""
    wanted = {"last": options.last}
    filters = options.include or options.exclude or getattr(options, "omit_digest_tags", False)
    if options.limit is not None and not filters:
        wanted["limit"] = str(options.limit)
    return {key: value for key, value in wanted.items() if value}


def selected(names: Iterable[str], options: argparse.Namespace) -> list[str]:
    """The names that the flags leave, in order. Raises UsageError for what is no pattern."""
    include, exclude = _patterns(options.include), _patterns(options.exclude)
    found = [
        name
        for name in names
        if (not include or any(pattern.fullmatch(name) for pattern in include))
        and not any(pattern.fullmatch(name) for pattern in exclude)
        and not (getattr(options, "omit_digest_tags", False) and _DIGEST_TAG.fullmatch(name))
    ]
    return found[: options.limit]


def check_patterns(options: argparse.Namespace) -> None:
    """Before anything is asked. Raises UsageError."""
    _patterns([*options.include, *options.exclude])


def _patterns(texts: Iterable[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(text) for text in texts]
    except re.error as error:
        raise UsageError(f"{error.pattern!r} is not a regular expression: {error}") from None
