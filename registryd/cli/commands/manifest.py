"""``manifest``: a manifest or index, byte for byte."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the bytes; of an index, the index itself unless --platform chooses. Raises Fault."""
    from registryd.cli.logins import login_for

    reference = Reference.parse(context.options.reference)
    login = login_for(context, reference.registry, reference.repository)
    wanted = {"reference": str(reference), "platform": context.options.platform}
    with backend(context, reference.registry) as chosen:
        context.console.raw(chosen.raw("manifest", wanted, login).content)
