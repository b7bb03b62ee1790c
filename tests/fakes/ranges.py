"""Content, or a range of it, right or wrong."""

from __future__ import annotations

import re

from aiohttp import web

from tests.fakes.http import Reply, reply


def serve_range(
    request: web.BaseRequest, content: bytes, counted_as: str, ways: str = "right"
) -> Reply:
    """Content, or the one range of it that is asked for.

    ``ways``: ``right``; ``ignored`` (200, with Accept-Ranges); ``wrong`` (206, and a Content-Range
    that is not what was asked for); ``unitless`` (Content-Range without ``bytes``); ``refused``.
    """
    common = {"Content_Type": "application/octet-stream", "Accept_Ranges": "bytes"}
    wanted = request.headers.get("Range", "")
    if "," in wanted or (wanted and ways == "refused"):
        return reply(501)
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if match is None or ways == "ignored":
        answer = reply(200, content, **common)
    elif int(match[1]) >= len(content):
        return reply(416, Content_Range=f"bytes */{len(content)}")
    else:
        start = int(match[1])
        stop = min(int(match[2]) + 1, len(content)) if match[2] else len(content)
        off = 1 if ways == "wrong" else 0
        unit = "" if ways == "unitless" else "bytes "
        sent = f"{unit}{start + off}-{stop - 1}/{len(content)}"
        answer = reply(206, content[start + off : stop], Content_Range=sent, **common)
    answer.counted_as = counted_as
    return answer


async def read_all(request: web.BaseRequest) -> bytes:
    """The body of a request; ``request.read`` has a limit of 1 MiB."""
    return b"".join([piece async for piece in request.content.iter_any()])
