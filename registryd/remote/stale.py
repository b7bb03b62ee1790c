"""A stored login that is refused, where nobody needs one: once more without it.

Logins that lie in files grow old, and a registry that refuses one refuses even what is public.
Invariants:
- only a login that was found in a file or by a helper is done without, never one that was given
  for the occasion, and only to read;
- what is read so is what anybody may read; whoever asks learns which login was refused, and where
  it lies: by a warning when it went well without, by the error when it did not;
- as long as it is not known whether it goes well without, nobody else is made to go without.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from registryd.oci.challenge import Scope
from registryd.oci.errors import Denied, NameUnknown, RegistryError, Unauthorized
from registryd.oci.wire_errors import refusal
from registryd.ports import Warned
from registryd.remote.answer import Answer
from registryd.remote.logins import Logins
from registryd.secrets import Login

READING = frozenset({"pull"})


#: Asks, and notes in the list each login that it shows; this one it does not show.
Ask = Callable[[list[Login], Login | None], Awaitable[Answer]]


def _last(shown: list[Login], scopes: tuple[Scope, ...]) -> Login | None:
    """The login that was shown last, if a request with these scopes may be made without it."""
    reads = bool(scopes) and all(scope.actions <= READING for scope in scopes)
    return shown[-1] if shown and shown[-1].stored and reads else None


class Retreat:
    """How one registry is asked again without a stored login that it refuses."""

    def __init__(self, registry: str, logins: Logins, warned: Warned) -> None:
        self._registry = registry
        self._logins = logins
        self._warned = warned

    async def ask(
        self,
        repository: str,
        scopes: tuple[Scope, ...],
        ask: Ask,
        *,
        what: str,
        whole: bool,
    ) -> Answer:
        """The answer, with the login or else without.

        ``what`` begins an error line. An answer of 403 counts as a refusal of the login where the
        request is ``whole`` (no HEAD, whose refusal may be of the HEAD). Raises as ``ask`` does.
        """
        shown: list[Login] = []
        try:
            answer = await ask(shown, None)
        except (Unauthorized, Denied, NameUnknown) as error:
            login = _last(shown, scopes)
            if login is None or error.status < 400:
                raise
            refused: RegistryError = error
        else:
            login = _last(shown, scopes)
            if login is None or answer.status != 403 or answer.strayed or not whole:
                return answer
            words = f"{what} with the login stored in {login.origin}"
            refused = refusal(answer.status, await answer.errors(), words)
            await answer.drain()
        return await self._without(repository, login, ask, refused)

    async def _without(
        self,
        repository: str,
        login: Login,
        ask: Ask,
        refused: RegistryError,
    ) -> Answer:
        try:
            answer = await ask([], login)
        except (Unauthorized, Denied, NameUnknown):
            raise refused from None
        if answer.status >= 400 and answer.status != 416:
            await answer.drain()
            raise refused
        if self._logins.set_aside(repository, login):
            self._warned(
                f"the login stored in {login.origin} was refused by {self._registry}; went on"
                f" without it, as {repository} is public: run registryctl logout {self._registry}"
            )
        return answer
