"""``digest``: what a name means now."""

from __future__ import annotations

from typing import Any

from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import Backend, backend
from registryd.cli.command import Context
from registryd.cli.platforms import single
from registryd.oci.reference import Reference
from registryd.secrets import Login


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument("--full-ref", action="store_true", default=False, help="print NAME@DIGEST")
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print the digest. Raises Fault."""
    from registryd.cli.logins import login_for

    reference = Reference.parse(context.options.reference)
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        result = _meaning(context, chosen, reference, login)
    if result.get("warning"):
        context.console.words(f"warning: {result['warning']}")
    if context.options.format == "json":
        context.console.json(result)
    elif context.options.full_ref:
        context.console.line(f"{reference.name}@{result['digest']}")
    else:
        context.console.line(str(result["digest"]))


def _meaning(
    context: Context, chosen: Backend, reference: Reference, login: Login | None
) -> dict[str, Any]:
    """What a name means; with --platform, what an index has for it (whose manifest is read)."""
    platform = single(context)
    if platform is None:
        return chosen.call("digest", {"reference": str(reference)}, login)
    wanted = {"reference": str(reference), "platform": platform}
    answer = chosen.raw("manifest", wanted, login)
    return {
        "reference": str(reference),
        "digest": answer.digest,
        "media_type": answer.media_type,
        "size": len(answer.content),
    }
