"""What could come next on a command line that is being typed.

Invariants:
- a line that makes no sense has no continuation; nothing here raises or prints;
- the names of images are asked for only where one fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from registryd.cli.command import ALIASES, COMMANDS, named
from registryd.cli.command_tree import Flag, Line, Word, line_of
from registryd.oci.errors import UsageError

#: Said in place of words where the shell knows better: the files there are.
FILES = ":files"
#: Names of files and transports that stand before a path.
Names = Callable[[], Iterable[str]]


def candidates(line: str, top: Line, names: Names) -> list[str]:
    """The words that the last word of this line could become, sorted; or FILES alone.

    ``top`` is what may stand before the command; ``names`` gives those of images.
    """
    words = line.split()[1:]
    current = words.pop() if words and not line[-1:].isspace() else ""
    before, after = _split(words, top)
    try:
        command, rest = named(after) if after else ("", ())
    except UsageError:
        return _fitting(_commands(after), current)
    if not after:
        flagged = _of_flags(top, before, current, names)
        return _fitting(_commands(()), current) if flagged is None else flagged
    line_now = line_of(command)
    found = _of_flags(line_now, rest, current, names)
    if found is not None:
        return found
    known = _of_word(_next_word(line_now, rest), current, names)
    return known if known == [FILES] else sorted({*known, *_fitting(_commands(after), current)})


def _split(words: Sequence[str], top: Line) -> tuple[Sequence[str], Sequence[str]]:
    """The flags before the command, and the command with what follows it."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        flag = top.flag(words[at])
        at += 2 if flag is not None and flag.takes is not None else 1
    return words[:at], words[at:]


def _commands(words: Sequence[str]) -> list[str]:
    """The words of commands that may follow these."""
    known = [name.split() for name in (*COMMANDS, *ALIASES)]
    return [
        name[len(words)]
        for name in known
        if len(name) > len(words) and name[: len(words)] == list(words)
    ]


def _of_flags(line: Line, words: Sequence[str], current: str, names: Names) -> list[str] | None:
    """The flags, or what the flag before takes; None where neither is being typed."""
    last = line.flag(words[-1]) if words else None
    if last is not None and last.takes is not None and not _alone(last):
        return _of_word(last.takes, current, names)
    if not current.startswith("-"):
        return None
    name, equals, value = current.partition("=")
    flag = line.flag(name) if equals else None
    if flag is not None and flag.takes is not None:
        found = _of_word(flag.takes, value, names)
        return found if found == [FILES] else [f"{name}={word}" for word in found]
    return _fitting((name for flag in line.flags for name in flag.names), current)


def _alone(flag: Flag) -> bool:
    """Whether a flag takes its value only behind an equals sign."""
    return any(name.endswith("tls-verify") for name in flag.names)


def _next_word(line: Line, words: Sequence[str]) -> Word | None:
    """The argument that comes after these."""
    count, value = 0, False
    for word in words:
        flag = line.flag(word)
        if value or word.startswith("-"):
            value = not value and flag is not None and flag.takes is not None and not _alone(flag)
        else:
            count += 1
    if count < len(line.words):
        return line.words[count]
    return line.words[-1] if line.words and line.words[-1].repeated else None


def _of_word(word: Word | None, current: str, names: Names) -> list[str]:
    if word is None:
        return []
    if word.choices:
        return _fitting(word.choices, current)
    if word.is_file:
        return [FILES]
    return _fitting(names(), current) if word.is_image else []


def _fitting(words: Iterable[str], current: str) -> list[str]:
    return sorted({word for word in words if word.startswith(current)})
