"""``cache unpin``: the end of one's pins of an image, or of those of a name."""

from __future__ import annotations

from cache.patterns import is_pattern
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF", nargs="?", default=None)
    parser.add_argument(
        "--as", metavar="NAME", dest="pin_name", default=None, help="what the pin was called"
    )


def run(context: Context) -> None:
    """End the pins, a line for each. Raises Fault, UsageError, PinNotFound."""
    options = context.options
    if (options.reference is None) == (options.pin_name is None):
        raise UsageError("cache unpin takes a REF or --as NAME, one of the two")
    if options.reference is None:
        asked = {"name": options.pin_name}
    else:
        pattern = is_pattern(options.reference)
        reference = options.reference if pattern else str(Reference.parse(options.reference))
        asked = {"reference": reference}
    with backend(context) as chosen:
        result = chosen.call("unpin", asked)
    if options.format == "json":
        context.console.json(result)
        return
    for pin in result.get("unpinned") or []:
        words = [str(pin[key]) for key in ("reference", "digest") if pin.get(key)]
        context.console.line(f"Unpinned: {' '.join(words)}")
