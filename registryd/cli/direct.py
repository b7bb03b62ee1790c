"""Registries that a command asks itself, in this process, with the user's own login.

Invariants:
- the node's own registry and ``cache:`` names are asked through the daemon's socket: what writes to
  a root is one process;
- what is opened here is closed when the command's one act ends, however it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import uvloop

from registryd.cli.backend import backend
from registryd.cli.command import Context
from registryd.cli.logins import login_for
from registryd.cli.own_names import OWN_REGISTRY
from registryd.cli.remotes import open_remotes
from registryd.oci.errors import UsageError
from registryd.ports import Remote

_T = TypeVar("_T")


def run(act: Coroutine[Any, Any, _T]) -> _T:
    """Do one act to its end. Raises what it raises."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(act)


@asynccontextmanager
async def open_registry(
    context: Context, registry: str, repository: str = "", *, cached: bool = False
) -> AsyncIterator[Remote]:
    """A registry by its name in references; ``cached``: as the daemon sees it.

    Raises UsageError where that needs a daemon and there is none, ConfigInvalid,
    DaemonUnreachable.
    """
    endpoint, login = "", None
    if cached or registry == OWN_REGISTRY:
        with backend(context) as chosen:
            if chosen.socket is None:
                raise UsageError(
                    f"{registry if registry == OWN_REGISTRY else 'the cache'} is asked for this"
                    " through a daemon, and none answers (start registryd, or use copy, images"
                    " and rmi, which need none)"
                )
            endpoint = f"unix://{quote(str(chosen.socket))}"
    else:
        login = await asyncio.to_thread(login_for, context, registry, repository)
    async with open_remotes(context, registry, endpoint=endpoint) as remotes:
        yield remotes.remote(registry, login)
