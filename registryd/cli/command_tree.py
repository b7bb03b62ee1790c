"""The commands with their flags and arguments, as values: for completion and for the manual.

Invariant: they are read from the parsers themselves, so that neither can say something else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from registryd.cli.arguments import Parser
from registryd.cli.command import load, parser_for

#: What an argument is called that is an image, or begins with one.
IMAGE_WORDS = frozenset(
    {"BLOB", "DST", "IMAGE", "NAME", "NAME@DIGEST", "REF", "REF2", "REPOSITORY", "SRC", "SUBJECT"}
)
FILE_WORDS = frozenset({"DIR", "FILE", "PATH", "SCRIPT", "WISHES"})


@dataclass(frozen=True, slots=True)
class Word:
    """One argument of a command, or what a flag of it takes."""

    called: str
    choices: tuple[str, ...] = ()
    repeated: bool = False
    optional: bool = False
    text: str = ""

    @property
    def is_image(self) -> bool:
        """Whether the names of images fit here."""
        return self.called.partition("[")[0] in IMAGE_WORDS

    @property
    def is_file(self) -> bool:
        """Whether a path fits here."""
        return self.called in FILE_WORDS


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag by all its names; ``takes`` is None for one that stands alone."""

    names: tuple[str, ...]
    takes: Word | None
    text: str
    group: str


@dataclass(frozen=True, slots=True)
class Line:
    """What may follow a command."""

    flags: tuple[Flag, ...]
    words: tuple[Word, ...]

    def flag(self, name: str) -> Flag | None:
        """The flag of this name."""
        return next((flag for flag in self.flags if name in flag.names), None)


def line_of(name: str) -> Line:
    """What may follow a command in COMMANDS."""
    return read(parser_for(name, load(name)))


def read(parser: Parser) -> Line:
    """What a parser takes."""
    actions = list(_actions(parser))
    flags = tuple(_flag(action, group) for action, group in actions if action.option_strings)
    words = tuple(_word(action) for action, _ in actions if not action.option_strings)
    return Line(flags, words)


def _actions(parser: Parser) -> Iterator[tuple[argparse.Action, str]]:
    """What is shown in the help, with the heading it stands under."""
    for group in parser._action_groups:  # there is no public way to what a parser knows
        for action in group._group_actions:
            if action.help is not argparse.SUPPRESS:
                yield action, group.title or ""


def _flag(action: argparse.Action, group: str) -> Flag:
    takes = None if action.nargs == 0 else _word(action)
    return Flag(tuple(action.option_strings), takes, action.help or "", group)


def _word(action: argparse.Action) -> Word:
    called = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    choices = tuple(map(str, action.choices or ()))
    if not choices and "|" in called and called == called.lower():
        choices = tuple(called.split("|"))
    repeated, optional = action.nargs in ("+", "*"), action.nargs in ("?", "*")
    return Word(called, choices, repeated, optional, action.help or "")
