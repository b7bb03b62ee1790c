"""``cache df``: how the cache uses the disk, and what images share."""

from __future__ import annotations

import shutil

from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.room_table import Look, facts, table


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the use of the disk. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("df", {})
    if context.options.format == "json":
        context.console.json(result)
        return
    images = result.get("images") or []
    if images:
        for line in table(images, _look(context)):
            context.console.line(line)
        context.console.line("")
    context.console.facts(facts(result))


def _look(context: Context) -> Look:
    """How stdout may look; a file and a pipe are read by programs, and by eyes of later."""
    out = context.console.out
    if not out.isatty():
        return Look()
    dumb = context.environ.get("TERM") == "dumb"
    unicode = (out.encoding or "").lower().replace("-", "") == "utf8"
    return Look(shutil.get_terminal_size().columns, blocks=unicode and not dumb)
