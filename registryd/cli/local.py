"""The backend without a daemon: the same operations, in this process, on a cache of its own.

Invariants:
- each call opens the services, and has closed them when it ends (nothing outlives a call);
- nothing of the services is imported before the first call.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.content import Digest
from registryd.cli.backend import Event, Raw, Report
from registryd.config import Config
from registryd.secrets import Login

if TYPE_CHECKING:
    from registryd.operations import Operations
    from registryd.remote.found_hosts import FoundHosts

#: Operations that speak to a registry in the caller's name.
WITH_LOGIN = frozenset(
    {"pull", "push", "convert", "digest", "manifest", "config", "ratelimit", "tags", "pin"}
)
#: Arguments of the API that an operation takes by position, in this order.
BY_POSITION = ("reference", "repository", "source", "target", "destination")


class LocalBackend:
    """Operations of this process on the cache that a configuration names."""

    socket: Path | None = None

    def __init__(
        self, config: Config, environ: Mapping[str, str], warned: Callable[[str], None]
    ) -> None:
        self._config = config
        self.root: Path | None = config.cache.root
        self._environ = environ
        self._warned = warned

    def call(
        self, operation: str, arguments: Mapping[str, Any], login: Login | None = None
    ) -> dict[str, Any]:
        """The result. Raises Fault."""
        result: dict[str, Any] = self._do(operation, arguments, login)
        return result

    def raw(self, operation: str, arguments: Mapping[str, Any], login: Login | None = None) -> Raw:
        """The result as bytes. Raises Fault."""
        return Raw(*self._do(operation, {"platform": None, **arguments}, login))

    def stream(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        report: Report,
        login: Login | None = None,
    ) -> Event:
        """Report each event; the event "done". Raises Fault."""
        last: Event = {}

        def watch(event: Event) -> None:
            nonlocal last
            last = event
            report(event)

        self._do(operation, {**arguments, "report": watch}, login)
        return last

    def opened(self, reference: str, digest: str, login: Login | None = None) -> int:
        """A blob's file, open for reading. Raises Fault."""
        from cache.layout import blob_path

        with suppress(OSError):  # what has its name in the cache is whole and proven
            path = blob_path(self._config.cache.root, Digest.parse(digest))
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

        async def ask(operations: Operations) -> int:
            async with operations.opened(reference, digest, login=login) as file:
                return os.dup(file)

        return int(self._run(ask))

    def close(self) -> None:
        """Nothing is held between calls."""

    def _do(self, operation: str, arguments: Mapping[str, Any], login: Login | None) -> Any:
        named = dict(arguments)
        positional = [named.pop(name) for name in BY_POSITION if name in named]
        if operation in WITH_LOGIN:
            named["login"] = login

        async def ask(operations: Operations) -> Any:
            return await getattr(operations, operation)(*positional, **named)

        return self._run(ask)

    def _run(self, ask: Callable[[Operations], Awaitable[Any]]) -> Any:
        import uvloop

        from registryd.cli.found import found_for

        # What breaks off and goes on is for a log; -v has one.
        logging.getLogger("registryd.transfer").addHandler(logging.NullHandler())
        found = found_for(self._config, self._environ)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._with_operations(ask, found))

    async def _with_operations(
        self, ask: Callable[[Operations], Awaitable[Any]], found: FoundHosts
    ) -> Any:
        from registryd.services import open_operations

        opening = open_operations(self._config, self._environ, found, warned=self._warned)
        async with opening as operations:
            return await ask(operations)
