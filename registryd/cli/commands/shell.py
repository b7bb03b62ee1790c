"""``shell``: bash in an image, or sh where it has none."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from registryd.cli import run_flags
from registryd.cli.arguments import Parser
from registryd.cli.command import Context

#: ``-v`` is a bind here, as it is for docker.
SHORT_VERBOSE = False


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    run_flags.arguments(parser, words="ARGUMENT", what="of the shell")


def read(parser: Parser, words: Sequence[str], options: argparse.Namespace) -> None:
    """Read the command line. Raises UsageError."""
    run_flags.read(parser, words, options)


def run(context: Context) -> None:
    """Become the command. Raises Fault."""
    from registryd.cli.running import run_image

    run_image(context, "shell")
