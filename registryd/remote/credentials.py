"""The login for a repository, out of the places where docker and podman keep logins.

Invariants:
- the most exact key wins: a repository's before its parents', those before the host's;
- a helper program runs for the wanted host only, when it is its turn, and has ten seconds; one
  that is missing or in trouble is a warning, and holds nothing;
- each place is told with what was found there, and no secret is in the telling.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from registryd.remote.auth_entry import decode_entry
from registryd.remote.credential_files import (
    helper_for,
    helper_server,
    matching,
    read_place,
    store_of,
    table_in,
)
from registryd.remote.credential_helper import HelperFailed, ask_helper, program_of
from registryd.remote.credential_places import Place, place_name
from registryd.secrets import Login

if TYPE_CHECKING:  # the ports bring asyncio along, for which a thin client would wait
    from registryd.ports import Warned

log = logging.getLogger(__name__)

#: Among helpers for all registries (registries.conf, "credential-helpers"): the files themselves.
FILES = "containers-auth.json"

Helper = Callable[[str, str], Login | None]


@dataclass(frozen=True, slots=True)
class Looked:
    """A place that was looked at for a login: what was found there, and by which key or helper."""

    place: str
    found: str
    key: str = ""
    helper: str = ""
    login: Login | None = field(default=None, repr=False)


class CredentialFiles:
    """Places of credentials in the order of their precedence. All methods block: use a thread.

    ``helpers`` are asked for every registry, in their order; among them FILES are the places.
    """

    def __init__(
        self,
        places: Sequence[Place],
        *,
        helpers: Sequence[str] = (FILES,),
        helper: Helper = ask_helper,
        warned: Warned = log.warning,
    ) -> None:
        self._places = tuple(places)
        self._helpers = tuple(helpers)
        self._helper = helper
        self._warned = warned

    def find(self, registry: str, repository: str = "") -> Login | None:
        """The login for a registry (a repository's own, where one is kept), or None.

        Raises ConfigInvalid for a file that cannot be used.
        """
        logins = (looked.login for looked in self.look(registry, repository))
        return next((login for login in logins if login is not None), None)

    def look(self, registry: str, repository: str = "") -> Iterator[Looked]:
        """Look at one place after the other, for whoever stops at the first login.

        Raises ConfigInvalid for a file that cannot be used.
        """
        for each in self._helpers or (FILES,):
            if each != FILES:
                yield self._ask(each, registry, "credential-helpers")
                continue
            for place in self._places:
                yield self._look_in(place, registry, repository)

    @property
    def order(self) -> list[str]:
        """The names of all places, in order."""
        files = [place_name(place) for place in self._places]
        named = [files if each == FILES else [program_of(each)] for each in self._helpers]
        return [name for names in named for name in names]

    def _look_in(self, place: Place, registry: str, repository: str) -> Looked:
        name, content = place_name(place), read_place(place)
        if not content:
            return Looked(name, "nothing is there")
        if helper := helper_for(content, registry, place):
            return self._ask(helper, registry, name, "credHelpers")
        entries = table_in(content, "auths", place)
        for key in matching(entries, registry, repository):
            login = decode_entry(entries[key], f'{name}, key "{key}"')
            if login is not None:
                return Looked(name, "its key fits", key=key, login=login)
        if helper := store_of(content):
            return self._ask(helper, registry, name, "credsStore")
        return Looked(name, f"no key for {registry}")

    def _ask(self, helper: str, registry: str, place: str, member: str = "") -> Looked:
        """Have a helper say what it has; trouble with it is a warning."""
        program = program_of(helper)
        try:
            login = self._helper(helper, helper_server(registry))
        except HelperFailed as error:
            self._warned(
                f"the credential helper {program} {error}; going on without a login of {registry}"
                f" ({member or 'named'} in {place})"
            )
            return Looked(place, f"{program} {error}", helper=program)
        if login is None:
            return Looked(place, f"{program} has no login for {registry}", helper=program)
        words = f"{member} names {program}, which has one" if member else f"{program} has one"
        return Looked(place, words, helper=program, login=login)
