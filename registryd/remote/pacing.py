"""The waits between tries, and the moment before which a host wants to hear nothing.

Invariant: "not before" belongs to a host, and every task that asks it keeps to it.
"""

from __future__ import annotations

import logging

from registryd.oci.errors import RateLimited
from registryd.remote.clock import Clock
from registryd.remote.retry import (
    PASSING,
    TOO_MANY_REQUESTS,
    RetryPolicy,
    Tries,
    decide,
    parse_retry_after,
)

log = logging.getLogger(__name__)

#: After a shared wait, tasks start again within this many seconds, not in one burst.
SPREAD = 1.0
#: A wait that is too long for us is taken at its word for so many seconds only: it may be meant for
#: one login, and another one may have been given since.
SHUT = 60.0


class NotBefore(RateLimited):
    """Raised instead of asking a host that wants to hear nothing for too long."""


class Pacing:
    """When hosts may be asked again; one for the process."""

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self.policy = policy
        self.clock = clock
        self._not_before: dict[str, float] = {}
        #: Hosts that want to hear nothing for longer than anyone waits: until when by their own
        #: words, and until when we take them at these.
        self._shut: dict[str, tuple[float, float]] = {}

    async def gate(self, host: str, *, patient: bool = True) -> None:
        """Wait until the host may be asked. Raises NotBefore when that is too far away.

        Not ``patient``: any wait is too long, for another host can be asked.
        """
        self._check_shut(host)
        if not patient and self.clock.monotonic() < self._not_before.get(host, 0.0):
            text = f"{host} wants no requests now (too many requests)"
            raise NotBefore(text, status=TOO_MANY_REQUESTS)
        while (remaining := self._not_before.get(host, 0.0) - self.clock.monotonic()) > 0:
            spread = self.clock.chance() * min(SPREAD, remaining / 10)
            await self.clock.sleep(remaining + spread)
            self._check_shut(host)
        self._not_before.pop(host, None)

    def _check_shut(self, host: str) -> None:
        moment, believed = self._shut.get(host, (0.0, 0.0))
        now = self.clock.monotonic()
        if now < believed:
            raise NotBefore(
                f"{host} wants no requests for another {moment - now:.0f} s (too many requests); "
                "wait, or log in to be allowed more",
                status=TOO_MANY_REQUESTS,
            )
        self._shut.pop(host, None)

    async def again(
        self, host: str, tries: Tries, status: int | None, retry_after: str | None = None
    ) -> Tries | None:
        """Wait before another try; None when there shall be none.

        A wait that the host asked for is only noted: ``gate`` is where everyone keeps it.
        """
        wait = decide(self.policy, tries, status, retry_after, self.clock.wall(), self.clock.chance)
        if wait is None:
            self.note(host, status, retry_after)
            return None
        log.info("trying again", extra={"host": host, "status": status, "seconds": wait.seconds})
        if wait.shared:
            self._note(host, wait.seconds)
        else:
            await self.clock.sleep(wait.seconds)
        return wait.tries

    def note(self, host: str, status: int | None, retry_after: str | None) -> None:
        """Keep a wait that a host asks for, on behalf of everyone, without trying again."""
        asked = parse_retry_after(retry_after, self.clock.wall())
        if asked is not None and status in PASSING:
            self._note(host, asked)

    def _note(self, host: str, seconds: float) -> None:
        now = self.clock.monotonic()
        if seconds > self.policy.throttle_limit:
            self._shut[host] = (now + seconds, now + min(seconds, SHUT))
        else:
            self._not_before[host] = max(now + seconds, self._not_before.get(host, 0.0))
