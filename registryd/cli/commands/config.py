"""``config``: an image's configuration, byte for byte."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.platforms import single_preferred
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the bytes; as JSON what points to them, and their content. Raises Fault."""
    from registryd.cli.commands.manifest import described
    from registryd.cli.logins import login_for

    reference = Reference.parse(context.options.reference)
    login = login_for(context, reference.registry, reference.repository)
    wanted = {"reference": str(reference), "platform": single_preferred(context)}
    with backend(context, reference.registry) as chosen:
        answer = chosen.raw("config", wanted, login)
    if context.options.format == "json":
        context.console.json(described(str(reference), answer))
    else:
        context.console.raw(answer.content)
