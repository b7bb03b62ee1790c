"""Writes docs/commands.md: every command of registryctl with its arguments and flags.

Run it after a command has changed (``python -m scripts.commands_page``); a test compares the page
with the parsers, which are its only source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from registryd.cli.command import ALIASES, COMMANDS, PROGRAM
from registryd.cli.command_tree import Flag, Line, Word, line_of, read
from registryd.cli.main import EXIT_CODES, top_parser

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
#: What stands once, at the top, for all commands that have it.
SHARED = ("flags of every command", "credentials", "connection")
HEAD = """\
# The commands of registryctl

Written by `python -m scripts.commands_page` from what the program itself says;
`registryctl COMMAND --help` shows the same. Names are images as people write them: `alpine`,
`ghcr.io/org/app:1`, `NAME@sha256:...`, with or without `docker://`.

"""


def page() -> str:
    """The whole page."""
    top = read(top_parser())
    parts = [HEAD, "## Flags that many commands share\n\n"]
    parts += [_shared(top, title) for title in SHARED]
    parts.append(f"{EXIT_CODES[0].upper()}{EXIT_CODES[1:]}.\n".replace("\n", " ").strip() + "\n\n")
    for name, summary in COMMANDS.items():
        parts.append(_section(name, summary, line_of(name)))
    return "".join(parts).rstrip("\n") + "\n"


def _shared(top: Line, title: str) -> str:
    flags = [flag for flag in top.flags if flag.group == title]
    return f"**{title[0].upper()}{title[1:]}**\n\n{_table(flags)}\n"


def _section(name: str, summary: str, line: Line) -> str:
    usage = " ".join([f"{PROGRAM} {name}", *map(_usage, line.words)])
    others = [alias for alias, meant in ALIASES.items() if meant == name]
    also = f" Also `{'`, `'.join(others)}`." if others else ""
    own = [flag for flag in line.flags if flag.group not in SHARED and "--help" not in flag.names]
    shared = [title for title in SHARED[1:] if any(flag.group == title for flag in line.flags)]
    words = [word for word in line.words if word.text]
    takes = f"\nTakes the flags of {' and '.join(shared)} too.\n" if shared else ""
    return (
        f"## {name}\n\n`{usage}`\n\n{summary[0].upper()}{summary[1:]}.{also}\n"
        + (f"\n{_words(words)}" if words else "")
        + (f"\n{_table(own)}" if own else "")
        + takes
        + "\n"
    )


def _usage(word: Word) -> str:
    shown = f"{word.called}..." if word.repeated else word.called
    return f"[{shown}]" if word.optional else shown


def _words(words: Iterable[Word]) -> str:
    return _rows("argument", [(f"`{word.called}`", word.text) for word in words])


def _table(flags: Iterable[Flag]) -> str:
    return _rows(
        "flag", [(_names(flag), flag.text) for flag in flags if "--help" not in flag.names]
    )


def _names(flag: Flag) -> str:
    value = "" if flag.takes is None else f" {_value(flag.takes)}"
    return ", ".join(f"`{name}{value}`" for name in flag.names)


def _value(word: Word) -> str:
    return "|".join(word.choices) if word.choices else word.called


def _rows(heading: str, rows: Sequence[tuple[str, str]]) -> str:
    lines = [f"| {heading} | |", "|---|---|"]
    lines += [f"| {_cell(left)} | {_cell(right)} |" for left, right in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
