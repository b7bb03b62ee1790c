"""registryctl: finds the command, runs it, and turns whatever happens into an exit code.

Invariants:
- what is imported for every command is small: a test names what must not be;
- every way out passes ``ending``: one line on stderr, and an exit code of the table.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from registryd import __version__
from registryd.cli.arguments import (
    DEFAULTS,
    Parser,
    credential_flags,
    general_flags,
    overridden,
    platform_flag,
    spelled_out,
    tls_flags,
    words_of_skopeo,
)
from registryd.cli.command import (
    PROGRAM,
    Command,
    Context,
    load,
    named,
    overview,
    parser_for,
)
from registryd.cli.console import Console, OutputLost
from registryd.cli.errors import INTERRUPTED, SIGNALLED, ending
from registryd.cli.signals import end_as_interrupted

EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 not found, 3 no access, 4 rate limited, 5 digest mismatch,
6 network or time-out, 7 partly done, 64 wrong usage"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the program with these arguments (the process's own unless given); the exit code."""
    _open_standard_streams()
    ended = end_as_interrupted()
    console = Console(sys.stdout, sys.stderr, sys.stdin)
    code = program(sys.argv[1:] if words is None else words, console, os.environ)
    return SIGNALLED + ended[0] if ended and code == INTERRUPTED else code


def program(words: Sequence[str], console: Console, environ: Mapping[str, str]) -> int:
    """Run one command line in this environment; the exit code."""
    options = argparse.Namespace(**DEFAULTS)
    try:
        _run(spelled_out(words), options, console, environ)
        console.flush()
    except SystemExit as end:  # how argparse leaves after --help and --version
        return _flushed(console, end.code if isinstance(end.code, int) else 0)
    except BaseException as error:
        return _failed(error, console, traceback=options.verbose or _wants_words(words))
    return 0


def _run(
    words: list[str],
    options: argparse.Namespace,
    console: Console,
    environ: Mapping[str, str],
) -> None:
    """Read the command line, and do what it says. Raises Fault."""
    command = parsed(words, options)
    if options.verbose:
        _log_to_stderr()
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    context = Context(options, console, environ, home)
    if options.command_timeout is None:
        command.run(context)
        return
    from registryd.cli.deadline import deadline

    with deadline(options.command_timeout):
        command.run(context)


def parsed(words: Sequence[str], options: argparse.Namespace) -> Command:
    """The command of a command line, whose flags are put into the options. Raises UsageError."""
    top_parser().parse_args(words, options)
    name, rest = named(options.words)
    command = load(name)
    parser = parser_for(name, command)
    read = getattr(command, "read", None)
    if read is None:
        parser.parse_intermixed_args(rest, options)
    else:
        read(parser, rest, options)
    if options.platform is None and not options.all_platforms:
        host = os.uname()
        options.platform = overridden(options, host.sysname, host.machine)
    return command


def top_parser() -> Parser:
    """The shared flags, and after them the command with all that is its own."""
    parser = Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [FLAGS] COMMAND [ARGUMENTS]",
        description="Container images in the node cache and in registries.",
        epilog=f"{overview()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS, default=[])
    general_flags(parser)
    credential_flags(parser)
    tls_flags(parser)
    platform_flag(parser)
    words_of_skopeo(parser)
    return parser


def _wants_words(words: Sequence[str]) -> bool:
    """Whether -v is among the words, where that is no bind (as in ``run -v SRC:DST``)."""
    return "-v" in words and not {"run", "exec", "shell"} & set(words[: words.index("-v")])


def _open_standard_streams() -> None:
    """Give a standard stream that was closed (``>&-``) a place, before a file gets its number.

    stdin has nothing, stderr is forgotten, and data for stdout is refused: it would be lost.
    """
    for name, mode, flags in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            place = os.open(os.devnull, flags)
            setattr(sys, name, os.fdopen(place, mode, encoding="utf-8"))


def _flushed(console: Console, code: int) -> int:
    """Send out what argparse wrote; the exit code."""
    try:
        console.flush()
    except (BrokenPipeError, OutputLost) as error:
        return _failed(error, console, traceback=False)
    return code


def _failed(error: BaseException, console: Console, *, traceback: bool) -> int:
    """Tell what went wrong; the exit code."""
    code, line = ending(error)
    try:
        console.flush()
    except (BrokenPipeError, OutputLost):
        console.abandon()
    if traceback and line:
        _print_traceback(error, console)
    if line:
        console.words(f"{PROGRAM}: {line}")
    return code


def _print_traceback(error: BaseException, console: Console) -> None:
    """Where it happened, for the one who looks for the cause."""
    import traceback

    console.err.write("".join(traceback.format_exception(error)))


def _log_to_stderr() -> None:
    """Show what the project's modules log; only where someone asks for it."""
    import logging

    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s"
    )


if __name__ == "__main__":
    sys.exit(main())
