"""How long a client that can ask elsewhere is kept waiting for a registry.

Invariants:
- a client that says ``ns`` gets an answer, or a no, within its budget. Of the others a mirror's
  clients can ask elsewhere for a manifest, so that it has a budget too; for the blobs of an image
  that was begun here they have nobody else, and wait as long as the transfer does;
- an image of which a blob could not be had lately is not begun again, unless all of it is here, or
  that blob can be had now;
- a registry that has just failed gets ``SHORT`` until something comes from it, or ``WINDOW`` has
  passed: one that is dead costs a pull its budget once, and not once for each layer;
- running out of a short budget is no failure of its own, so that a registry which is merely slow
  gets a whole one again when the window has passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from aiohttp import web

from cache.content import Digest
from registryd.oci.errors import RegistryError
from registryd.oci.reference import Reference
from registryd.ports import TransportError, transient

T = TypeVar("T")

#: Seconds that a failure of a registry is remembered.
WINDOW: Final = 10.0
#: Seconds that a registry gets which has just failed: enough for one that has come back.
SHORT: Final = 0.25
#: Seconds for which a blob that could not be had is tried before its image is begun again.
BROKEN: Final = 30.0
#: Names of each kind whose failures are remembered: they are what clients ask for.
KEPT: Final = 1024


class OverBudget(TransportError):
    """Raised when a registry did not answer within what a client may be kept waiting."""


@dataclass(slots=True)
class Wait:
    """One wait for a registry: the handler sets ``answered`` when something came from it, and
    ``failed`` when it failed and something could be given all the same."""

    answered: bool = False
    failed: bool = False


class Lately(Generic[T]):
    """To whom something happened in the last ``window`` seconds, and by what."""

    def __init__(self, clock: Callable[[], float], window: float) -> None:
        self._clock = clock
        self._window = window
        self._known: dict[str, tuple[float, T]] = {}

    def note(self, name: str, by: T) -> None:
        """Say that it has happened; the oldest names are forgotten."""
        self._known.pop(name, None)
        self._known[name] = self._clock(), by
        if len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    def forget(self, name: str, by: T) -> None:
        """Say that it is over, if it was by this."""
        if name in self._known and self._known[name][1] == by:
            del self._known[name]

    def by(self, name: str) -> T | None:
        """By what it happened to this name lately; None if it did not."""
        when, what = self._known.get(name, (None, None))
        return what if when is not None and self._clock() - when < self._window else None


class Budgets:
    """Which registries have just failed, and which repositories; one for all listeners."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures: Lately[Literal[True]] = Lately(clock, WINDOW)
        #: Repositories of which a blob could not be had, by its digest.
        self.broken: Lately[Digest] = Lately(clock, BROKEN)

    def seconds(self, registry: str, whole: float) -> float:
        """The budget for a registry whose whole budget is this."""
        return min(SHORT, whole) if self.failing(registry) else whole

    def failing(self, registry: str) -> bool:
        """Whether it has failed lately, and nothing has come from it since."""
        return self._failures.by(registry) is not None

    def failed(self, registry: str) -> None:
        """Note that a registry failed."""
        self._failures.note(registry, True)

    def answered(self, registry: str) -> None:
        """Note that something came from a registry."""
        self._failures.forget(registry, True)

    @asynccontextmanager
    async def wait(
        self,
        request: web.Request,
        reference: Reference,
        seconds: float,
        *,
        others: float | None = None,
    ) -> AsyncIterator[Wait]:
        """Wait for a registry no longer than this client may be kept, and note how it went.

        ``seconds`` is the whole budget of a client that says ``ns``, ``others`` that of any other
        (None: no limit). Raises OverBudget.
        """
        registry, wait, hurried = reference.registry, Wait(), self.failing(reference.registry)
        given = self.seconds(registry, seconds) if "ns" in request.query else others
        try:
            async with asyncio.timeout(given):
                yield wait
        except TimeoutError:
            if not hurried:
                self.failed(registry)
            raise OverBudget(
                f"{registry} did not answer for {reference} in {given:g} seconds"
            ) from None
        except (TransportError, RegistryError) as error:
            if transient(error):
                self.failed(registry)
            raise
        if wait.failed:
            self.failed(registry)
        elif wait.answered:
            self.answered(registry)
