"""Copies done in this process, with the user's own credentials: between any two places.

Invariant: what a copy did is one event, whatever went along with the image.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import monotonic

import uvloop

from registryd.cli.backend import Backend, Event, Report
from registryd.cli.command import Context
from registryd.cli.ends import FOLDERS, Ends
from registryd.images.transports import ImageLocation
from registryd.notices import Notices
from registryd.oci.platform import Platform
from registryd.sync.whole import Extras, Mover, Whole
from registryd.transfer.report import copied, notice

DEFAULT_JOBS = 4


def copy(
    context: Context,
    source: ImageLocation,
    target: ImageLocation,
    *,
    report: Report,
    platforms: Sequence[Platform] = (),
    extras: Extras | None = None,
    cache: Backend | None = None,
    sides: tuple[str, str] = ("", ""),
) -> Event:
    """Copy an image; the event "done". Raises Fault.

    ``extras`` say more than ``platforms`` alone. ``cache`` is needed where one side is ``cache:``;
    ``sides`` are the prefixes of each side's own flags in the options.
    """
    wanted = Extras(tuple(platforms)) if extras is None else extras

    async def run() -> Event:
        started = monotonic()
        async with AsyncExitStack() as stack:
            notices = Notices()
            stack.enter_context(notices.heard("", lambda told: report(notice(told))))
            passed = target.transport in FOLDERS
            ends = Ends(context, cache, stack, sides=sides, notices=notices, passed=passed)
            mover = Mover(ends, context.options.jobs or DEFAULT_JOBS, report)
            whole = await mover.move(source, target, wanted)
        event = _done(target, wanted, whole, monotonic() - started)
        report(event)
        return event

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def _done(target: ImageLocation, wanted: Extras, whole: Whole, seconds: float) -> Event:
    event: Event = copied(
        target.reference or str(target),
        whole.image.descriptor.digest,
        wanted.platforms,
        sent=whole.sent,
        sent_blobs=whole.sent_blobs,
        held=whole.held,
        held_blobs=whole.held_blobs,
        seconds=seconds,
        index=whole.image.index,
        manifests=whole.manifests,
        unchanged=whole.unchanged,
    )
    if wanted.referrers or wanted.digest_tags:
        event["attached"] = whole.attached
    if wanted.terms.rehearse:
        event["dry_run"] = True
    return event
