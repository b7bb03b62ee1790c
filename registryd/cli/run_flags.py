"""The flags of run, exec and shell, in the words of docker and of singularity.

Invariant: what stands after the image is the command's own, whatever it looks like; but for flags
of ours between the image and a ``--``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from registryd.cli.arguments import (
    Parser,
    credential_flags,
    general_flags,
    platform_flag,
    tls_flags,
    words_of_skopeo,
)
from registryd.cli.command import Context
from registryd.cli.module_flags import module_flags
from registryd.launch.plan import Flags
from registryd.oci.errors import UsageError

PULLS = ("missing", "always", "never")
RUNTIMES = ("auto", "native", "bwrap", "crun", "runc")


def arguments(parser: Parser, *, words: str, what: str) -> None:
    """Declare the image, the command's own words, and all flags."""
    parser.add_argument(
        "reference",
        metavar="REF",
        help="an image, or rootfs:DIR, squashfs:FILE, sif:FILE, FILE.sqsh, FILE.sif",
    )
    parser.add_argument("words", metavar=words, nargs=argparse.REMAINDER, help=what)
    run_flags(parser)


def run_flags(parser: Parser) -> None:
    """All flags but those of every command."""
    _environment_flags(parser)
    _view_flags(parser)
    parser.add_argument("--pull", choices=PULLS, default="missing", help="when to ask the registry")
    parser.add_argument(
        "--runtime", choices=RUNTIMES, default=None, help="how it is started (default: auto)"
    )
    parser.add_argument(
        "--join",
        metavar="KEY",
        default=None,
        help="share namespaces with all that give KEY here (default: those of the same job)",
    )
    parser.add_argument(
        "--no-join", action="store_true", default=False, help="share namespaces with nobody"
    )
    parser.add_argument(
        "-i",
        "-t",
        "--interactive",
        "--tty",
        "--rm",
        action="store_true",
        default=False,
        help="as docker has them: it is always so, and these change nothing",
    )
    module_flags(parser)
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def _environment_flags(parser: Parser) -> None:
    group = parser.add_argument_group("environment")
    group.add_argument(
        "-e",
        "--env",
        metavar="NAME[=VALUE]",
        action="append",
        default=[],
        help="set a variable; without VALUE to what it is here",
    )
    group.add_argument(
        "--env-file", metavar="FILE", action="append", default=[], help="variables, one a line"
    )
    group.add_argument(
        "--clearenv",
        "--cleanenv",
        action="store_true",
        default=False,
        help="nothing of the environment here but HOME, USER and TERM",
    )


def _view_flags(parser: Parser) -> None:
    group = parser.add_argument_group("files and user")
    group.add_argument(
        "-B",
        "-v",
        "--bind",
        "--volume",
        metavar="SRC[:DST[:ro]]",
        dest="binds",
        action="append",
        default=[],
        help="show a file or folder of this machine",
    )
    group.add_argument("-w", "--workdir", "--pwd", metavar="DIR", default="", help="begin there")
    group.add_argument("--user", "-u", metavar="USER[:GROUP]", default="", help="be seen as this")
    group.add_argument(
        "-H", "--home", metavar="SRC[:DST]", default="", help="another home folder than yours"
    )
    group.add_argument(
        "--no-home", action="store_true", default=False, help="do not show your home folder"
    )
    group.add_argument(
        "--no-mounts",
        action="store_true",
        default=False,
        help="none of your folders: no home, no current folder, an empty /tmp",
    )
    only = group.add_mutually_exclusive_group()
    only.add_argument(
        "--writable-tmpfs",
        action="store_true",
        default=False,
        help="the image can be written to; that is forgotten at the end",
    )
    only.add_argument(
        "--read-only", action="store_true", default=False, help="the image cannot (as usual)"
    )


def read(parser: Parser, words: Sequence[str], options: argparse.Namespace) -> None:
    """Read a command line into the options. Raises UsageError."""
    parser.parse_args(words, options)
    rest = list(options.words)
    end = _flags_end(parser, rest)
    if end:
        _read_more(parser, rest[:end], options)
    options.words = rest[end + 1 :] if rest[end : end + 1] == ["--"] else rest


def _read_more(parser: Parser, words: Sequence[str], options: argparse.Namespace) -> None:
    """Read flags that stand after the image; lists go on. Raises UsageError."""
    more = Parser(prog=parser.prog)
    run_flags(more)
    general_flags(more, short_verbose=False)
    words_of_skopeo(more)
    before = {
        name: list(getattr(options, name))
        for name in ("env", "env_file", "binds", "modules", "devices")
    }
    given = argparse.Namespace()
    more.parse_args(words, given)
    for name, value in vars(given).items():
        if name in before:
            setattr(options, name, [*before[name], *value])
        elif value != more.get_default(name):
            setattr(options, name, value)


def _flags_end(parser: Parser, words: Sequence[str]) -> int:
    """How many of these words are flags of ours, with what they take; none unless -- follows."""
    at = 0
    while at < len(words) and words[at] != "--":
        action = parser._option_string_actions.get(words[at].partition("=")[0])
        if action is None:
            return 0
        at += 1 if action.nargs == 0 or "=" in words[at] else 2
    return at if at < len(words) else 0


def flags(context: Context, verb: str) -> Flags:
    """What is asked for. Raises LaunchRefused, UsageError."""
    options = context.options
    chosen = context.environ
    binds = next(
        (
            chosen[name]
            for name in ("REGISTRYD_BIND", "APPTAINER_BIND", "SINGULARITY_BIND")
            if chosen.get(name)
        ),
        "",
    )
    return Flags(
        verb=verb,
        words=tuple(options.words),
        entrypoint=getattr(options, "entrypoint", None),
        env=tuple(options.env),
        env_files=tuple(map(_text, options.env_file)),
        clear_env=options.clearenv,
        binds=(*filter(None, (binds,)), *options.binds),
        workdir=options.workdir,
        user=options.user,
        home=options.home,
        no_home=options.no_home,
        no_mounts=options.no_mounts,
        writable=options.writable_tmpfs,
    )


def _text(name: str) -> str:
    """The text of an env file. Raises UsageError."""
    try:
        return Path(name).read_text(errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"--env-file {name}: {error.strerror}") from error
