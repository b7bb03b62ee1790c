"""``rmi``: names out of the cache, and what nothing else needs with them."""

from __future__ import annotations

from typing import Any

from cache.errors import Fault, NameNotFound
from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.errors import ending
from registryd.cli.held_names import looks_like_digest, with_digest
from registryd.cli.own_names import is_short, own_name
from registryd.cli.several import each
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference

#: How many names an error line lists.
LISTED = 5


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "references",
        metavar="NAME",
        nargs="+",
        help="a name, NAME@DIGEST, or the digest of an image (its first 12 digits do)",
    )
    parser.add_argument(
        "-f", "--force", action="store_true", default=False, help="all names of a digest"
    )


def run(context: Context) -> None:
    """Remove each name. Raises Fault; Partly when some of several failed."""
    with backend(context) as chosen:
        each(context.console, context.options.references, lambda text: _all(context, chosen, text))


def _all(context: Context, chosen: Backend, text: str) -> None:
    """Remove what a person named: a name, or all names of a digest."""
    names = [text]
    if looks_like_digest(text):
        found = with_digest(chosen.call("images", {}).get("images", []), text)
        if len(found) > 1 and not context.options.force:
            listed = ", ".join(map(str, found[:LISTED]))
            raise UsageError(f"{text} has {len(found)} names ({listed}); --force removes them all")
        names = [str(name) for name in found] or names
    for name in names:
        _remove(context, chosen, name)


def _remove(context: Context, chosen: Backend, name: str) -> None:
    try:
        result: dict[str, Any] = chosen.call("rmi", {"reference": name})
    except Fault as fault:
        raise _told_more(fault, chosen, name) from None
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


def _told_more(fault: Fault, chosen: Backend, name: str) -> Fault:
    """The fault, with what may have been meant: ``tag`` and ``load`` make short names our own."""
    if ending(fault)[0] == NameNotFound.exit_code and is_short(name):
        own = str(own_name(Reference.parse(name)))
        if any(
            image.get("reference") == own for image in chosen.call("images", {}).get("images", [])
        ):
            return NameNotFound(f"{fault}; {own} is: write rmi {own}")
    return fault
