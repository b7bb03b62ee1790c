"""``history``: the steps by which an image was made, the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.described import Parts, from_backend, json_object
from registryd.cli.platforms import single_preferred
from registryd.cli.tables import Column
from registryd.oci.reference import Reference

COLUMNS = (Column("CREATED"), Column("CREATED BY"), Column("SIZE", right=True), Column("COMMENT"))
#: Letters of a step that a table shows.
SHOWN = 60


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "--no-trunc", action="store_true", default=False, help="whole steps in the table"
    )
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """List the steps, with the size of their layers as they are sent. Raises Fault."""
    from registryd.cli.logins import login_for

    options, console = context.options, context.console
    reference = Reference.parse(options.reference)
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        parts = from_backend(chosen, reference, single_preferred(context), login)
    steps = list(_steps(parts, str(reference)))[::-1]
    if options.format == "json":
        digest = parts.root.digest
        console.json({"reference": str(reference), "digest": digest, "history": steps})
        return
    now = datetime.now(UTC)
    console.table(COLUMNS, [_row(step, now, whole=options.no_trunc) for step in steps])


def _steps(parts: Parts, name: str) -> Iterator[dict[str, Any]]:
    """Each step with its layer, in the order in which they were made."""
    layers = iter(json_object(parts.manifest, f"manifest of {name}").get("layers") or [])
    for step in json_object(parts.config, f"config of {name}").get("history") or []:
        layer: dict[str, Any] = {} if step.get("empty_layer") else next(layers, {})
        yield {
            "created": step.get("created") or "",
            "created_by": step.get("created_by") or "",
            "comment": step.get("comment") or "",
            "digest": layer.get("digest"),
            "size": layer.get("size") or 0,
        }


def _row(step: dict[str, Any], now: datetime, *, whole: bool) -> list[str]:
    made = " ".join(str(step["created_by"]).split())
    return [
        wording.ago(step["created"], now),
        made if whole or len(made) <= SHOWN else f"{made[: SHOWN - 3]}...",
        wording.size(step["size"]),
        str(step["comment"]),
    ]
