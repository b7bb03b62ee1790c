"""``limits``: how many bytes a second may pass; changed until the next restart or reload."""

from __future__ import annotations

from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.oci.errors import UsageError


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    rate = '("125MB/s", "1Gbit/s", 0 for no limit)'
    parser.add_argument(
        "--up", metavar="RATE", default=None, help=f"limit what goes to other nodes {rate}"
    )
    parser.add_argument(
        "--down",
        metavar="RATE",
        default=None,
        help="limit what comes from other nodes and registries",
    )
    parser.add_argument(
        "--registry",
        metavar="HOST=RATE",
        action="append",
        default=None,
        help="limit what comes from one registry; may be given again",
    )


def run(context: Context) -> None:
    """Change what is named, and print the limits that hold then. Raises Fault."""
    options = context.options
    given = {"up": options.up, "down": options.down, "registries": options.registry}
    changes = {key: value for key, value in given.items() if value is not None}
    with backend(context) as chosen:
        if changes and chosen.socket is None:
            raise UsageError("there is no daemon whose limits could be changed (name its --socket)")
        result = chosen.call("limit" if changes else "limits", changes)
    if options.format == "json":
        context.console.json(result)
        return
    context.console.facts(
        [
            ("up", _shown(result.get("up"))),
            ("down", _shown(result.get("down"))),
            *(
                (f"from {name}", _shown(limit))
                for name, limit in (result.get("registries") or {}).items()
            ),
        ]
    )


def _shown(limit: Any) -> str:
    return wording.rate(float(limit), 1.0) if limit else "no limit"
