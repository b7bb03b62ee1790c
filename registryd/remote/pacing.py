"""The waits between tries, and the moment before which a host wants to hear nothing.

Invariants:
- "not before" belongs to a host, and every task that asks it keeps to it;
- nobody waits long in silence: who listens is told, and told when an allowance runs out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from registryd.notices import Notices, Waiting
from registryd.oci.errors import RateLimited
from registryd.remote.clock import Clock
from registryd.remote.rate_limit import read_rate_limit
from registryd.remote.retry import (
    PASSING,
    TOO_MANY_REQUESTS,
    RetryPolicy,
    Tries,
    decide,
    parse_retry_after,
)

log = logging.getLogger(__name__)

#: A wait of so many seconds is told of; a shorter one is over before that is read.
TOLD_FROM = 0.5
#: After a shared wait, tasks start again within this many seconds, not in one burst.
SPREAD = 1.0
#: A wait that is too long for us is taken at its word for so many seconds only: it may be meant for
#: one login, and another one may have been given since.
SHUT = 60.0


class NotBefore(RateLimited):
    """Raised instead of asking a host that wants to hear nothing for too long."""


class Pacing:
    """When hosts may be asked again; one for the process."""

    def __init__(self, policy: RetryPolicy, clock: Clock, notices: Notices | None = None) -> None:
        self.policy = policy
        self.clock = clock
        self.notices = notices or Notices()
        #: Until when, and by which status.
        self._not_before: dict[str, tuple[float, int]] = {}
        #: Hosts that want to hear nothing for longer than anyone waits: until when by their own
        #: words, and until when we take them at these.
        self._shut: dict[str, tuple[float, float]] = {}

    async def gate(self, host: str, registry: str = "", *, patient: bool = True) -> None:
        """Wait until the host may be asked, for what this registry is to give.

        Not ``patient``: any wait is too long, for another host can be asked. Raises NotBefore when
        it is too long.
        """
        self._check_shut(host)
        if not patient and self._remaining(host) > 0:
            text = f"{host} wants no requests now (too many requests)"
            raise NotBefore(text, status=TOO_MANY_REQUESTS)
        while (remaining := self._remaining(host)) > 0:
            if remaining >= TOLD_FROM:
                until, status = self._not_before[host]
                self.notices.tell(Waiting(registry, host, remaining, until, status))
            spread = self.clock.chance() * min(SPREAD, remaining / 10)
            await self.clock.sleep(remaining + spread)
            self._check_shut(host)
        self._not_before.pop(host, None)

    def _remaining(self, host: str) -> float:
        until, _ = self._not_before.get(host, (0.0, 0))
        return until - self.clock.monotonic()

    def heard(self, registry: str, account: str, headers: Mapping[str, str]) -> None:
        """Take note of what an answer says of an account's allowance."""
        found = read_rate_limit(headers)
        if found is not None:
            self.notices.note(registry, account, found)

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
            self._note(host, wait.seconds, status or 0)
        else:
            await self.clock.sleep(wait.seconds)
        return wait.tries

    def note(self, host: str, status: int | None, retry_after: str | None) -> None:
        """Keep a wait that a host asks for, on behalf of everyone, without trying again."""
        asked = parse_retry_after(retry_after, self.clock.wall())
        if asked is not None and status in PASSING:
            self._note(host, asked, status or 0)

    def _note(self, host: str, seconds: float, status: int) -> None:
        now = self.clock.monotonic()
        if seconds > self.policy.throttle_limit:
            self._shut[host] = (now + seconds, now + min(seconds, SHUT))
        else:
            known = self._not_before.get(host, (0.0, 0))
            self._not_before[host] = max((now + seconds, status), known)
