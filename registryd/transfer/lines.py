"""Lines: a body taken from its socket by threads, without the event loop between.

For plain connections (a registry or a peer of the site) this halves what a byte costs: it goes from
the socket to the file through one buffer, while another thread hashes behind.

Invariants:
- no thread waits for a slow source: the loop does, and gives up after the stall limit;
- bytes that are here, or that another connection brings, are not taken again: the line ends there;
- the socket is closed only when no thread reads from it any more.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from cache.ingest import Ingest
from registryd.ports import Line, TransportError
from registryd.rates import Pace
from registryd.transfer.patience import LowSpeed
from registryd.trickle import Trickle

#: Bytes a hop takes at most; the first ones are smaller, so that followers have something early.
HOP = 8 << 20
FIRST_HOP = 256 << 10


async def receive(
    ingest: Ingest,
    line: Line,
    at: int,
    *,
    source: str,
    stall: float,
    came: Callable[[int], None],
    until: Callable[[], int | None] = lambda: None,
    pace: Pace | None = None,
    low_speed: LowSpeed | None = None,
) -> None:
    """Bring the line into the ingest at ``at``; ``came`` is told of every hop's bytes.

    ``until`` is asked before every hop how far to go (None: to the line's end), ``pace`` when.
    Raises TransportError when it ends short, breaks, stalls or is too slow, and what the ingest
    raises.
    """
    try:
        if line.head:
            if pace is not None:
                await pace.room(len(line.head))
                pace.passed(len(line.head))
            came(len(line.head))
            await ingest.write(at, [line.head])
        at += len(line.head)
        begin, end = at, at + line.count
        clock = asyncio.get_running_loop().time
        trickle, low_speed = Trickle(clock), low_speed or LowSpeed(0, stall)
        while (stop := _limit(ingest, at, end, until())) > at:
            step = min(HOP, max(FIRST_HOP, at - begin), stop - at)
            if pace is not None:
                room = await pace.room(step)
                # Others may have brought bytes, or been given them, meanwhile.
                step = min(room, _limit(ingest, at, end, until()) - at)
                if step <= 0:
                    return
            since = clock()
            count = await _hop(ingest, line.fd, at, step, source)
            if not count:
                await _readable(line.fd, source, stall)
            waited = clock() - since
            if count:
                at += count
                if pace is not None:
                    pace.passed(count)
                came(count)
                low_speed.check(count, waited, source)
                if at < stop and (seconds := trickle.pause(count)):
                    await asyncio.sleep(seconds)
            else:
                low_speed.check(0, waited, source)
    finally:
        os.close(line.fd)


def _limit(ingest: Ingest, at: int, end: int, until: int | None) -> int:
    return ingest.room(at, end if until is None else min(until, end))


async def _hop(ingest: Ingest, fd: int, at: int, limit: int, source: str) -> int:
    hop = ingest.receive(at, fd, limit)
    try:
        return await asyncio.shield(hop)
    except (EOFError, ConnectionError) as error:
        raise TransportError(f"{source} broke off: {error}") from error
    except asyncio.CancelledError:
        await asyncio.wait([hop])  # the thread reads from fd until then
        _ = hop.cancelled() or hop.exception()  # nobody is left to be told of a full disk
        raise


async def _readable(fd: int, source: str, stall: float) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    try:
        async with asyncio.timeout(stall):
            await ready
    except TimeoutError:
        raise TransportError(f"{source} sent nothing for {stall:g} seconds") from None
    finally:
        loop.remove_reader(fd)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
