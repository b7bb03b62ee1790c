"""Bytes to a daemon, and its answers read by the letter of RFC 9112; anything else is a failure."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from registryd.server.errors import STATUS

#: Seconds in which a daemon must have answered or closed.
LIMIT = 20.0
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [\t\x20-\x7e]*")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t\x20-\x7e\x80-\xff]*)")


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The protocol's code of an error body."""
        (entry,) = json.loads(self.body)["errors"]
        code: str = entry["code"]
        assert isinstance(entry["message"], str) and entry["message"]
        return code


async def exchange(door: int | Path, sent: bytes, methods: Sequence[str] = ("GET",)) -> list[Reply]:
    """What comes back for these bytes: an answer to each method, or fewer and then the end."""
    if isinstance(door, int):
        reader, writer = await asyncio.open_connection("127.0.0.1", door, limit=1 << 24)
    else:
        reader, writer = await asyncio.open_unix_connection(str(door), limit=1 << 24)
    replies: list[Reply] = []
    try:
        async with asyncio.timeout(LIMIT):
            with suppress(ConnectionError):
                writer.write(sent)
                for method in methods:
                    reply = await _reply(reader, method)
                    if reply is None:
                        break
                    replies.append(reply)
    except TimeoutError:
        raise AssertionError(f"neither answered nor closed: {sent[:300]!r}") from None
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return replies


async def _reply(reader: asyncio.StreamReader, method: str) -> Reply | None:
    """The next answer; None at a clean end."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            assert error.partial == b"", f"half a head: {error.partial[:300]!r}"
            return None
        first, *lines = head[:-4].split(b"\r\n")
        status = _STATUS.fullmatch(first)
        assert status, f"no status line: {first!r}"
        if status[1] != b"100":
            break
    headers = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        assert header, f"no header: {line!r}"
        headers[header[1].decode().lower()] = header[2].decode("latin-1")
    code = int(status[1])
    bare = method == "HEAD" or code in (204, 304)
    return Reply(code, headers, b"" if bare else await _body(reader, headers))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readexactly(2) == b"\r\n"
        return body
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


def check(reply: Reply, method: str) -> None:
    """What every answer must be: no failure of ours; a refusal in the protocol's words."""
    assert reply.status != 500, reply
    if reply.status >= 400 and method != "HEAD":
        assert reply.headers["content-type"].startswith("application/json"), reply
        assert reply.code in STATUS, reply
