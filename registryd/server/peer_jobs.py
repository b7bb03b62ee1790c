"""The route by which other nodes tell this one of a job, where no engine does (static mode).

``POST /peer/v1/jobs`` with the job's record; the answer is a stream of lines, each this node's word
on the job, until it has settled. Between words a line may be empty.

Invariants:
- a job is taken from members only, and its images are fetched with this node's own logins;
- who hangs up leaves the job as it is: it ends by its time, or by its next revision.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from registryd.jobs.board import MemoryBoard, Words
from registryd.jobs.errors import JobInvalid
from registryd.jobs.fan_out import PATH
from registryd.jobs.record import RECORD_LIMIT, Job
from registryd.oci.errors import Unsupported, UsageError
from registryd.server.account import account_of
from registryd.server.context import context_of

#: Seconds after which an empty line says that there is nothing new.
BEAT: Final = 10.0


def add_routes(app: web.Application) -> None:
    """Put the route into the application of the peers' listener."""
    app.router.add_post(PATH, _take)


async def _take(request: web.Request) -> web.StreamResponse:
    prefetches = context_of(request).node.prefetches
    board = None if prefetches is None else prefetches.board
    if prefetches is None or not isinstance(board, MemoryBoard):
        raise Unsupported("jobs come to this node by NATS")
    job = await _job(request)
    account_of(request).reference = f"job:{job.id}"
    if not job.is_for(prefetches.me):
        raise UsageError(f"the job {job.id} is not for {prefetches.me}")
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    async with board.following(job.id) as words:
        board.put(job)
        await response.prepare(request)
        while True:
            line, settled = await _next(words, prefetches.me, job)
            await response.write(line)
            if settled:
                break
    with suppress(ConnectionError):
        await response.write_eof()
    return response


async def _job(request: web.Request) -> Job:
    """The job that a request brings. Raises JobInvalid."""
    body = b""
    while len(body) <= RECORD_LIMIT and (piece := await request.content.read(RECORD_LIMIT)):
        body += piece
    if len(body) > RECORD_LIMIT:
        raise JobInvalid(f"a job's record has at most {RECORD_LIMIT} bytes")
    return Job.decode(body)


async def _next(words: Words, me: str, job: Job) -> tuple[bytes, bool]:
    """The next line to be sent, and whether it is the last."""
    try:
        async with asyncio.timeout(BEAT):
            while True:
                word = await words.get()
                if word.node == me and word.revision >= job.revision:
                    return word.encode() + b"\n", word.settled
    except TimeoutError:
        return b"\n", False
