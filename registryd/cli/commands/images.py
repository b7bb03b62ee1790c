"""``images``: what the cache holds."""

from __future__ import annotations

import gc
from datetime import UTC, datetime
from typing import Any

from registryd.cli import wording
from registryd.cli.arguments import Parser
from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.held_names import matching
from registryd.cli.tables import Column
from registryd.oci.reference import Reference

#: --format takes a template here.
TEMPLATES = ("--format",)
COLUMNS = (
    Column("NAME"),
    Column("TAG"),
    Column("DIGEST"),
    Column("PLATFORM"),
    Column("SIZE", right=True),
    Column("OWN", right=True),
    Column("LAST USED"),
    Column("PINNED"),
)


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "name",
        metavar="REPOSITORY[:TAG]",
        nargs="?",
        default=None,
        help="only the images of this name",
    )
    parser.add_argument(
        "--no-trunc", action="store_true", default=False, help="whole digests in the table"
    )
    parser.add_argument(
        "--digests", action="store_true", default=False, help="the same, for docker's users"
    )
    parser.add_argument(
        "-a", "--all", action="store_true", default=False, help="for docker's users; all are shown"
    )


def run(context: Context) -> None:
    """List the images: a table, JSON, by a template, or with -q digests. Raises Fault."""
    chosen_format = context.options.format
    templated = chosen_format not in ("table", "json")
    if templated:
        _check_format(chosen_format)
    gc.disable()  # of so many values none is garbage before the end, and looking takes longest
    with backend(context) as chosen:
        result = chosen.call("images", {})
    images = result.get("images", [])
    if context.options.name is not None:
        images = matching(images, context.options.name)
        result = {**result, "images": images}
    if chosen_format == "json":
        context.console.json(result)
    elif context.options.quiet:
        for digest in dict.fromkeys(image["digest"] for image in images):
            context.console.line(digest)
    elif templated:
        _fill_in(context, images)
    else:
        now = datetime.now(UTC)
        whole = context.options.no_trunc or context.options.digests
        rows = [_row(image, now, whole=whole) for image in images]
        context.console.table(COLUMNS, rows)


def _check_format(text: str) -> None:
    from registryd.cli.go_template import check_format

    check_format(text)


def _fill_in(context: Context, images: list[dict[str, Any]]) -> None:
    """A line for each image, made of the template."""
    from registryd.cli.go_template import rendered

    for image in images:
        context.console.text(rendered(context.options.format, _fields(context, image)))


def _fields(context: Context, image: dict[str, Any]) -> dict[str, Any]:
    """An image by the names that docker's templates have."""
    digest = str(image.get("digest") or "")
    whole = context.options.no_trunc
    return {
        "Repository": Reference.parse(str(image.get("name")), default_tag=None).familiar(),
        "Tag": image.get("tag") or "<none>",
        "ID": digest if whole else wording.short(digest),
        "Digest": digest,
        "Size": wording.size(image.get("size") or 0),
        "LastUsed": image.get("last_used") or "",
    }


def _row(image: dict[str, Any], now: datetime, *, whole: bool) -> list[str]:
    digest = str(image.get("digest") or "")
    return [
        str(image.get("name") or "-"),
        str(image.get("tag") or "-"),
        digest if whole else wording.short(digest),
        wording.some(image.get("platforms") or []),
        wording.size(image.get("size") or 0),
        wording.size(image.get("own_size") or 0),
        wording.ago(str(image.get("last_used") or ""), now),
        "yes" if image.get("pinned") else "",
    ]
