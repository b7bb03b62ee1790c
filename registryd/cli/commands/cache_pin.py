"""``cache pin``: an image that stays in the cache, whatever its name comes to mean."""

from __future__ import annotations

from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "--for",
        metavar="TIME",
        dest="lasting",
        default=None,
        help='for how long ("2h", "7d"; default: until cache unpin; a user\'s: 30d)',
    )
    parser.add_argument(
        "--as",
        metavar="NAME",
        dest="pin_name",
        default=None,
        help="what the pin is called (default: the image's name in full)",
    )
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Pin it, and print the digest that is kept. Raises Fault."""
    from registryd.cli.logins import login_for

    options = context.options
    reference = Reference.parse(options.reference)
    login = login_for(context, reference.registry, reference.repository)
    given = {"name": options.pin_name, "lasting": options.lasting}
    asked = {"reference": str(reference)} | {k: v for k, v in given.items() if v is not None}
    with backend(context, reference.registry) as chosen:
        result = chosen.call("pin", asked, login)
    if options.format == "json":
        context.console.json(result)
        return
    context.console.line(str(result["digest"]))
    if not result.get("held") and not options.quiet:
        context.console.words(f"note: it is not here yet (registryctl pull {reference} brings it)")
