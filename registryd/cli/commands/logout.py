"""``logout``: forget what login kept."""

from __future__ import annotations

from pathlib import Path

from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.oci.errors import UsageError


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "registry",
        metavar="REGISTRY",
        nargs="?",
        default=None,
        help="docker.io, ghcr.io, HOST:PORT, or the HOST/REPOSITORY that login was for",
    )
    parser.add_argument(
        "-a", "--all", action="store_true", default=False, help="all registries in the file"
    )
    parser.add_argument("--authfile", metavar="FILE", help="it is kept here (REGISTRY_AUTH_FILE)")


def run(context: Context) -> None:
    """Remove the credential; one that is not there is a success. Raises Fault."""
    from registryd.cli.logins import login_key
    from registryd.remote.credential_files import keys_of
    from registryd.remote.credential_places import login_path

    options = context.options
    if options.all == (options.registry is not None):
        raise UsageError("name one REGISTRY to log out of, or --all")
    path = Path(options.authfile) if options.authfile else login_path(context.environ, context.home)
    keys = keys_of(path) if options.all else [login_key(options.registry)]
    removed = [key for key in keys if _log_out(context, key, path)]
    if options.format == "json":
        context.console.json({"authfile": str(path), "removed": removed})
    if not keys:
        context.console.words(f"not logged in anywhere ({path})")


def _log_out(context: Context, key: str, path: Path) -> bool:
    """Forget one, and say where else there is one; whether it was there."""
    from registryd.remote.credential_files import remove
    from registryd.remote.credential_places import default_places, place_name
    from registryd.remote.credentials import CredentialFiles

    removed = remove(path, key)
    if removed:
        context.console.words(f"logged out of {key}; removed from {path}")
    else:
        context.console.words(f"not logged in to {key} ({path})")
    registry, _, repository = key.partition("/")
    others = [] if context.options.authfile else default_places(context.environ, context.home)
    for other in others:
        files = CredentialFiles((other,), warned=context.console.warning)
        if other != path and files.find(registry, repository) is not None:
            context.console.words(f"{place_name(other)} still has a credential for {key}")
    return removed
