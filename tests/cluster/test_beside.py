"""A task beside a block: it ends with the block, and the block's error is its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from registryd.cluster.beside import beside


async def test_it_ends_with_the_block() -> None:
    """Begun with the block, over when the block is; what the block raises comes out as itself."""
    told: list[str] = []

    async def act() -> None:
        told.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            told.append("over")

    with pytest.raises(KeyError):
        async with beside(act):
            await asyncio.sleep(0)
            raise KeyError

    assert ["begun", "over"] == told


async def test_it_is_told_again() -> None:
    """A task that has lost the word to end, as libraries do, ends all the same."""
    lost = 0

    async def act() -> None:
        nonlocal lost
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lost += 1
        await asyncio.Event().wait()

    async with asyncio.timeout(20), beside(act):
        await asyncio.sleep(0)

    assert 1 == lost


async def test_its_own_error_is_raised() -> None:
    """A task that has failed is no secret."""

    async def act() -> None:
        raise KeyError("act")

    with pytest.raises(KeyError, match="act"):
        async with beside(act):
            await asyncio.sleep(0)
