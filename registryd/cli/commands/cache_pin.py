"""``cache pin``: an image that stays in the cache, or all that a pattern means."""

from __future__ import annotations

from datetime import datetime

from cache.patterns import is_pattern
from registryd.cli.arguments import Parser, credential_flags, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF", help="an image, or a pattern of names")
    parser.add_argument(
        "--for",
        metavar="TIME",
        dest="lasting",
        default=None,
        help='for how long ("2h", "7d"; default: until cache unpin; a user\'s: 30d)',
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        default=None,
        help='until when ("2030-01-31", "2030-01-31T12:00"; local time unless it says a zone)',
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
    given = {"name": options.pin_name, "lasting": options.lasting, "until": _moment(options.until)}
    reference, registries, login = options.reference, list[str](), None
    if not is_pattern(reference):
        image = Reference.parse(reference)
        reference, registries = str(image), [image.registry]
        login = login_for(context, image.registry, image.repository)
    asked = {"reference": reference} | {k: v for k, v in given.items() if v is not None}
    with backend(context, *registries) as chosen:
        result = chosen.call("pin", asked, login)
    if options.format == "json":
        context.console.json(result)
        return
    context.console.line(str(result["digest"] or result["reference"]))
    if not result.get("held") and not options.quiet and result["digest"]:
        context.console.words(f"note: it is not here yet (registryctl pull {reference} brings it)")


def _moment(text: str | None) -> str | None:
    """A time as the API wants it. Raises UsageError."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--until {text}: write 2030-01-31 or 2030-01-31T12:00") from None
    return (when if when.tzinfo else when.astimezone()).isoformat(timespec="seconds")
