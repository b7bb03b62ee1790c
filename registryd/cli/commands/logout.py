"""``logout``: forget what login kept."""

from __future__ import annotations

from pathlib import Path

from registryd.cli.arguments import Parser
from registryd.cli.command import Context


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("registry", metavar="REGISTRY", help="docker.io, ghcr.io, HOST:PORT")
    parser.add_argument("--authfile", metavar="FILE", help="it is kept here (REGISTRY_AUTH_FILE)")


def run(context: Context) -> None:
    """Remove the credential; one that is not there is a success. Raises Fault."""
    from registryd.cli.logins import registry_name
    from registryd.remote.credentials import CredentialFiles, default_paths, login_path, remove

    options = context.options
    registry = registry_name(options.registry)
    path = Path(options.authfile) if options.authfile else login_path(context.environ, context.home)
    if remove(path, registry):
        context.console.words(f"logged out of {registry}; removed from {path}")
    else:
        context.console.words(f"not logged in to {registry} ({path})")
    others = [] if options.authfile else default_paths(context.environ, context.home)
    for other in others:
        if other != path and CredentialFiles((other,)).find(registry) is not None:
            context.console.words(f"{other} still has a credential for {registry}")
