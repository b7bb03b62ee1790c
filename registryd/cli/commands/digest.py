"""``digest``: what a name means now."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument("--full-ref", action="store_true", default=False, help="print NAME@DIGEST")
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the digest. Raises Fault."""
    from registryd.cli.logins import login_for

    reference = Reference.parse(context.options.reference)
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        result = chosen.call("digest", {"reference": str(reference)}, login)
    if result.get("warning"):
        context.console.words(f"warning: {result['warning']}")
    if context.options.format == "json":
        context.console.json(result)
    elif context.options.full_ref:
        context.console.line(f"{reference.name}@{result['digest']}")
    else:
        context.console.line(str(result["digest"]))
