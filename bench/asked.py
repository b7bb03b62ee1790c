"""What is asked of the index and of the grants for one GET of a held blob, and how long it takes.

The same calls as the daemon's, in this process: who may read the repository, whether the blob is
here and of it, and the note of its use. The time of the loop's thread is told beside that of the
clock: on a machine that has other work the clock tells of that.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from cache.content import Digest
from registryd.access import Caller
from registryd.config import load
from registryd.oci.reference import Reference
from registryd.operations import Node
from registryd.places import system_places
from registryd.services import open_node

#: Times by the clock and of the thread, seconds, one a request.
Times = tuple[list[float], list[float]]


def asked(config: Path, repository: str, digests: Sequence[str], count: int) -> Times:
    """For so many requests, each of some one of these blobs."""
    return uvloop.run(_asked(config, repository, digests, count))


async def _asked(config: Path, repository: str, digests: Sequence[str], count: int) -> Times:
    reference = Reference.parse(repository, default_tag=None)
    chance, wanted = random.Random(1), [Digest.parse(text) for text in digests]
    settings = load(config, system_places())
    async with open_node(settings, os.environ, listeners=("bench",)) as node:
        for digest in wanted[:1]:
            await _ask(node, reference, digest)
        times: Times = [], []
        for _ in range(count):
            digest = chance.choice(wanted)
            clock, thread = time.perf_counter(), time.thread_time()
            await _ask(node, reference, digest)
            times[0].append(time.perf_counter() - clock)
            times[1].append(time.thread_time() - thread)
            await asyncio.sleep(0)
    return times


async def _ask(node: Node, reference: Reference, digest: Digest) -> None:
    remote = await node.access.admit(Caller("uid:65534"), reference)
    if await node.library.blob(remote, reference, digest) is not None:
        raise RuntimeError(f"{digest} is not held")
    node.store.find(digest)
    await node.store.touch(digest)
