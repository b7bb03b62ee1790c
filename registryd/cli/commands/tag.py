"""``tag``: one more name for an image in the cache."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.held_names import looks_like_digest, with_digest
from registryd.cli.own_names import is_short, own_name
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "source", metavar="NAME", help="a name in the cache, NAME@DIGEST, or a digest"
    )
    parser.add_argument("target", metavar="NEW-NAME", help="localhost/NAME:TAG, or NAME:TAG alone")


def run(context: Context) -> None:
    """Set the name; without words, like other clients. Raises Fault."""
    options = context.options
    target = options.target
    if is_short(target):
        target = str(own_name(Reference.parse(target)))
    with backend(context) as chosen:
        result = chosen.call("tag", {"source": _exact(chosen, options.source), "target": target})
    if target != options.target and not options.quiet:
        context.console.words(f"{options.target} is {target} here")
    if context.options.format == "json":
        context.console.json(result)


def _exact(chosen: Backend, text: str) -> str:
    """The name of what a person named by its digest; a name as it is. Raises NameNotFound."""
    if looks_like_digest(text):
        found = with_digest(chosen.call("images", {}).get("images", []), text)
        return str(found[0]) if found else text
    return text
