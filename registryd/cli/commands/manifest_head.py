"""``manifest head``: what points to a manifest, without the manifest."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print digest, media type and size. Raises Fault."""
    from registryd.cli.logins import login_for

    reference = Reference.parse(context.options.reference)
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        result = chosen.call("digest", {"reference": str(reference)}, login)
    if result.get("warning"):
        context.console.words(f"warning: {result['warning']}")
    if context.options.format == "json":
        context.console.json(result)
        return
    keys = ("digest", "media_type", "size")
    context.console.facts([(key.replace("_", " "), str(result.get(key, "-"))) for key in keys])
