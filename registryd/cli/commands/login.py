"""``login``: prove a credential to a registry, and keep it where podman and docker look."""

from __future__ import annotations

import asyncio
from pathlib import Path

from registryd.cli.arguments import Parser, tls_flags
from registryd.cli.command import Context
from registryd.oci.errors import Unauthorized, UsageError
from registryd.secrets import Login, Secret


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "registry",
        metavar="REGISTRY",
        nargs="?",
        default="docker.io",
        help="docker.io (if none is named), ghcr.io, HOST:PORT, or HOST/REPOSITORY for that alone",
    )
    parser.add_argument(
        "-u", "--username", metavar="USER", default=None, help="<token> for an identity token"
    )
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument(
        "-p", "--password", metavar="PASSWORD", default=None, help="others can see it: better not"
    )
    secret.add_argument(
        "--password-stdin", action="store_true", default=False, help="read it from stdin"
    )
    secret.add_argument(
        "--get-login",
        action="store_true",
        default=False,
        help="print the user that is logged in there, and do no more",
    )
    parser.add_argument(
        "--authfile", metavar="FILE", help="keep it in this file (REGISTRY_AUTH_FILE)"
    )
    tls_flags(parser)


def run(context: Context) -> None:
    """Ask, try, and only then keep. Raises Fault."""
    from registryd.cli.logins import login_key
    from registryd.remote.credential_files import save
    from registryd.remote.credential_places import login_path

    options = context.options
    key = login_key(options.registry)
    if options.get_login:
        _print_user(context, key)
        return
    login = _asked(context)
    asyncio.run(_prove(context, key.partition("/")[0], login))
    path = Path(options.authfile) if options.authfile else login_path(context.environ, context.home)
    kept = save(path, key, login)
    if options.format == "json":
        context.console.json({"registry": key, "username": login.username, "kept": str(kept)})
    context.console.words(f"logged in to {key}; kept in {kept}")


def _print_user(context: Context, key: str) -> None:
    """The user of the login that is there. Raises Unauthorized, ConfigInvalid."""
    from registryd.cli.logins import files
    from registryd.remote.credential_helper import TOKEN_USER

    registry, _, repository = key.partition("/")
    login = files(context).find(registry, repository)
    if login is None:
        raise Unauthorized(f"not logged in to {key}; run registryctl login {key}")
    user = login.username or TOKEN_USER
    if context.options.format == "json":
        context.console.json({"registry": key, "username": user})
    else:
        context.console.line(user)


def _asked(context: Context) -> Login:
    """The credential from flags, stdin or the terminal. Raises UsageError."""
    from registryd.remote.credential_helper import TOKEN_USER

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
    if user == TOKEN_USER:
        return Login(identity_token=secret, origin="login")
    return Login(user, secret, origin="login")


async def _prove(context: Context, registry: str, login: Login) -> None:
    """Show the credential to the registry. Raises Unauthorized, Denied, TransportError ..."""
    from registryd.cli.remotes import open_remotes

    async with open_remotes(context, registry) as remotes:
        await remotes.remote(registry, login).ping()
