"""``access revoke``: let somebody prove anew that they may read a repository."""

from __future__ import annotations

from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "repository", metavar="REPOSITORY", nargs="?", default=None, help="of this one only"
    )
    parser.add_argument(
        "--principal",
        metavar="P",
        default=None,
        help="of this one only, as access ls shows it: uid:1000, login:..., * for what is public",
    )
    parser.add_argument(
        "--all", action="store_true", default=False, help="of everybody, for every repository"
    )


def run(context: Context) -> None:
    """Revoke, and print what is gone. Raises Fault."""
    options = context.options
    given = {
        "repository": options.repository, "whose": options.principal, "everything": options.all,
    }  # fmt: skip
    with backend(context) as chosen:
        result = chosen.call("revoke", {key: value for key, value in given.items() if value})
    if options.format == "json":
        context.console.json(result)
        return
    for grant in result.get("revoked") or []:
        context.console.line(f"Revoked: {grant.get('repository')} {grant.get('principal')}")
