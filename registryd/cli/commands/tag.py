"""``tag``: one more name for an image in the cache."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("source", metavar="NAME", help="a name in the cache, or NAME@DIGEST")
    parser.add_argument("target", metavar="NEW-NAME")


def run(context: Context) -> None:
    """Set the name; without words, like other clients. Raises Fault."""
    names = {"source": context.options.source, "target": context.options.target}
    with backend(context) as chosen:
        result = chosen.call("tag", names)
    if context.options.format == "json":
        context.console.json(result)
