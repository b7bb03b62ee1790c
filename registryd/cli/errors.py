"""What can go wrong between the command line and a daemon, and how any error is told.

Invariants:
- ``ending`` is the one table from an error to an exit code and words; nothing else knows either;
- the words are one line without control characters, whatever a registry put into them.
"""

from __future__ import annotations

from collections.abc import Iterator

from cache.errors import Fault

#: Exit codes of the shell's convention: 128 and the signal's number.
SIGNALLED = 128
INTERRUPTED = 130
BROKEN_PIPE = 141
#: Some of several things were done, and some failed.
PARTLY_DONE = 7


class DaemonUnreachable(Fault):
    """Raised when no daemon answers on a socket, or it broke off in the middle of an answer."""

    exit_code = 6
    code = "UNAVAILABLE"


class DaemonRefused(Fault):
    """Raised when a daemon answered with an error: its line, and the exit code that it names."""

    def __init__(self, text: str, *, ends_with: int = 1) -> None:
        super().__init__(text)
        self.ends_with = ends_with


class Partly(Fault):
    """Raised when some of several things failed, each of them told already."""

    exit_code = PARTLY_DONE


def ending(error: BaseException) -> tuple[int, str]:
    """The exit code and the line for people; the line is empty where nothing is to be said."""
    if isinstance(error, BaseExceptionGroup):
        return ending(_worst(error))
    if isinstance(error, DaemonRefused):
        return error.ends_with, one_line(error)
    if isinstance(error, Fault):
        return error.exit_code, one_line(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE, ""
    kind = type(error).__name__
    return 1, f"unexpected {kind}: {one_line(error)} (run with -v for the traceback)"


def one_line(error: BaseException) -> str:
    """The text of an error as one printable line."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """This text with a question mark for what would move the cursor or colour the terminal."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group that says most: an unexpected one, then the first on purpose."""
    leaves = list(_leaves(group))
    unexpected = [leaf for leaf in leaves if not isinstance(leaf, Fault)]
    return (unexpected or leaves)[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
