"""``rmi``: names out of the cache, and what nothing else needs with them."""

from __future__ import annotations

import argparse
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.several import each


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("references", metavar="NAME", nargs="+", help="a name, or NAME@DIGEST")
    # docker's word: names are taken away here whoever uses what they mean.
    parser.add_argument("-f", "--force", action="store_true", dest="no_op", help=argparse.SUPPRESS)


def run(context: Context) -> None:
    """Remove each name. Raises Fault; Partly when some of several failed."""
    with backend(context) as chosen:
        each(
            context.console, context.options.references, lambda name: _remove(context, chosen, name)
        )


def _remove(context: Context, chosen: Backend, name: str) -> None:
    result: dict[str, Any] = chosen.call("rmi", {"reference": name})
    console = context.console
    if context.options.format == "json":
        console.json(result)
        return
    for reference in result.get("untagged", []):
        console.line(f"Untagged: {reference}")
    for digest in result.get("deleted", []):
        console.line(f"Deleted: {digest}")
    if not context.options.quiet:
        console.words(f"{wording.size(result.get('freed') or 0)} freed")
