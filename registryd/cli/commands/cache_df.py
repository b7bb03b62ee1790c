"""``cache df``: how the cache uses the disk."""

from __future__ import annotations

from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.tables import Column

IMAGES = (
    Column("IMAGE"),
    Column("SIZE", right=True),
    Column("OWN", right=True),
    Column("SHARED", right=True),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes: nothing of its own."""


def run(context: Context) -> None:
    """Print the use of the disk. Raises Fault."""
    with backend(context) as chosen:
        result = chosen.call("df", {})
    if context.options.format == "json":
        context.console.json(result)
        return
    images = result.get("images") or []
    if images:
        context.console.table(IMAGES, [_row(image) for image in images])
        context.console.line("")
    context.console.facts(_facts(result))


def _facts(df: dict[str, Any]) -> list[tuple[str, str]]:
    sizes = (
        ("shared by images", "shared_size"),
        ("used by no image", "unreferenced"),
        ("arriving", "ingest"),
        ("free on the disk", "free"),
    )
    return [
        ("cache", str(df.get("root", "-"))),
        ("blobs", f"{df.get('blobs', '-')}, {wording.size(df.get('size') or 0)}"),
        *((words, wording.size(df.get(key) or 0)) for words, key in sizes),
    ]


def _row(image: dict[str, Any]) -> list[str]:
    sizes = (image.get(key) or 0 for key in ("size", "own_size", "shared_size"))
    return [str(image.get("reference") or "-"), *map(wording.size, sizes)]
