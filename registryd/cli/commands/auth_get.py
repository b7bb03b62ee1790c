"""``auth get``: a credential as credential helpers print it, for programs that want one."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags
from registryd.cli.command import Context
from registryd.oci.errors import Unauthorized


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "registry",
        metavar="REGISTRY",
        nargs="?",
        default=None,
        help="a registry or HOST/REPOSITORY (read from stdin if none is named)",
    )
    credential_flags(parser)


def run(context: Context) -> None:
    """Print user and secret as JSON: whoever asks for this wants to see it. Raises Fault."""
    from registryd.cli.logins import login_for, login_key
    from registryd.remote.credential_helper import TOKEN_USER

    named = context.options.registry or context.console.typed.readline().strip()
    key = login_key(named)
    registry, _, repository = key.partition("/")
    login = login_for(context, registry, repository)
    if login is None:
        raise Unauthorized(f"not logged in to {key}; run registryctl login {key}")
    token = login.identity_token
    user = TOKEN_USER if token else login.username
    context.console.json({"Username": user, "Secret": (token or login.password).reveal()})
