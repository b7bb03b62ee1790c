"""``tags``: the tags of a repository, one a line."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("repository", metavar="REPOSITORY", help="a name without tag")
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the tags. Raises Fault."""
    from registryd.cli.logins import login_for

    repository = Reference.parse(context.options.repository, default_tag=None)
    if repository.target:
        raise UsageError(
            f"{context.options.repository} has a tag or digest (use {repository.name})"
        )
    login = login_for(context, repository.registry, repository.repository)
    with backend(context, repository.registry) as chosen:
        result = chosen.call("tags", {"repository": repository.name}, login)
    if context.options.format == "json":
        context.console.json(result)
        return
    for tag in result.get("tags", []):
        context.console.line(tag)
