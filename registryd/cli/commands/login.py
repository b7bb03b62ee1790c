"""``login``: prove a credential to a registry, and keep it where podman and docker look."""

from __future__ import annotations

import asyncio
from pathlib import Path

from registryd.cli.arguments import Parser, tls_flags
from registryd.cli.command import Context
from registryd.oci.errors import UsageError
from registryd.secrets import Login, Secret


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("registry", metavar="REGISTRY", help="docker.io, ghcr.io, HOST:PORT")
    parser.add_argument("-u", "--username", metavar="USER", default=None)
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "-p", "--password", metavar="PASSWORD", default=None, help="others can see it: better not"
    )
    secret.add_argument(
        "--password-stdin", action="store_true", default=False, help="read it from stdin"
    )
    parser.add_argument(
        "--authfile", metavar="FILE", help="keep it in this file (REGISTRY_AUTH_FILE)"
    )
    tls_flags(parser)


def run(context: Context) -> None:
    """Ask, try, and only then keep. Raises Fault."""
    from registryd.cli.logins import registry_name
    from registryd.remote.credentials import login_path, save

    options = context.options
    registry = registry_name(options.registry)
    login = _asked(context)
    asyncio.run(_prove(context, registry, login))
    path = Path(options.authfile) if options.authfile else login_path(context.environ, context.home)
    save(path, registry, login)
    context.console.words(f"logged in to {registry}; kept in {path}")


def _asked(context: Context) -> Login:
    """The credential from flags, stdin or the terminal. Raises UsageError."""
    options, console = context.options, context.console
    if options.password_stdin and not options.username:
        raise UsageError("--password-stdin needs --username")
    user = options.username or console.ask("Username")
    if options.password_stdin:
        secret = Secret(console.typed.readline().rstrip("\r\n"))
    elif options.password is not None:
        console.words("a password in --password can be seen by others: use --password-stdin")
        secret = Secret(options.password)
    else:
        secret = console.ask_secret(f"Password of {user}")
    if not user or not secret:
        raise UsageError("user or password is empty")
    return Login(user, secret, origin="login")


async def _prove(context: Context, registry: str, login: Login) -> None:
    """Show the credential to the registry. Raises Unauthorized, Denied, TransportError ..."""
    from registryd.cli.remotes import open_remotes

    async with open_remotes(context, registry) as remotes:
        await remotes.remote(registry, login).ping()
