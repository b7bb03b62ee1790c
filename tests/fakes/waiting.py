"""Waiting for something to become true, with a limit; never for time to pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(claim: Callable[[], object], limit: float = 20.0) -> None:
    """Look again and again, in between everything else of the loop, until the claim holds."""
    try:
        async with asyncio.timeout(limit):
            while not claim():  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError("what was waited for did not happen") from None
