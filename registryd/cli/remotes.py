"""Registries that this process dials itself, with the user's configuration and flags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from registryd.cli.command import Context
from registryd.cli.found import found_for
from registryd.cli.settings import settings
from registryd.notices import Notices
from registryd.remote.proxies import proxies_of
from registryd.remote.remotes import RegistryRemotes
from registryd.remote.upload_journal import UPLOADS, UploadJournal

if TYPE_CHECKING:
    from registryd.sync.plan import Door


@asynccontextmanager
async def open_remotes(
    context: Context,
    registry: str,
    *,
    side: str = "",
    endpoint: str = "",
    notices: Notices | None = None,
    door: Door | None = None,
) -> AsyncIterator[RegistryRemotes]:
    """Connections to this registry, by ``side``'s flags; ``endpoint`` replaces the configured one.

    ``door`` says how the registry is reached where no flag does.
    Pushes that were cut off go on by the journal beside the user's cache.
    No credentials but those that are handed to ``remote()``. Raises ConfigInvalid, UsageError.
    """
    config = settings(context, registries=(registry,), side=side, door=door)
    registries = dict(config.registries)
    if endpoint:
        registries[registry] = replace(registries[registry], endpoint=endpoint)
    found = await asyncio.to_thread(found_for, config, context.environ)
    async with RegistryRemotes.open(
        registries=registries,
        transfer=config.transfer,
        allow=config.access.allow,
        credentials=None,
        proxies=proxies_of(context.environ),
        notices=notices,
        journal=UploadJournal(config.cache.root / UPLOADS),
        warned=context.console.warning,
        one_user=True,
        found=found,
    ) as remotes:
        yield remotes
