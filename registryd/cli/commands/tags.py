"""``tags``: the tags of a repository, one a line."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.selection import check_patterns, list_flags, pages, selected
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("repository", metavar="REPOSITORY", help="a name without tag")
    parser.add_argument("--full-ref", action="store_true", default=False, help="print NAME:TAG")
    list_flags(parser)
    parser.add_argument(
        "-O",
        "--omit-digest-tags",
        "--exclude-digest-tags",
        action="store_true",
        default=False,
        help="without those like sha256-0123..., which belong to other images",
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the tags. Raises Fault."""
    from registryd.cli.logins import login_for

    options = context.options
    check_patterns(options)
    repository = Reference.parse(options.repository, default_tag=None)
    if repository.target:
        raise UsageError(f"{options.repository} has a tag or digest (use {repository.name})")
    login = login_for(context, repository.registry, repository.repository)
    with backend(context, repository.registry) as chosen:
        asked = {"repository": repository.name, **pages(options)}
        result = chosen.call("tags", asked, login)
    tags = selected(result.get("tags", []), options)
    if options.format == "json":
        context.console.json({**result, "tags": tags})
        return
    for tag in tags:
        context.console.line(f"{repository.name}:{tag}" if options.full_ref else tag)
