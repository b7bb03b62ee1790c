"""``version``: the version of this program."""

from __future__ import annotations

from registryd import __version__
from registryd.cli.arguments import Parser
from registryd.cli.command import Context


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the version."""
    if context.options.format == "json":
        context.console.json({"version": __version__})
    else:
        context.console.line(f"registryctl {__version__}")
