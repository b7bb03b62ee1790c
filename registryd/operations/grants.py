"""Who was let in where: the grants, listed and taken back.

Invariant: they are the business of root and the daemon's own user alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from cache.grants import Grant
from cache.store import BlobStore
from registryd.access import LOGIN, SHOWN
from registryd.oci.errors import Denied, UsageError
from registryd.oci.reference import Reference
from registryd.operations.holdings import moment
from registryd.operations.node import Result


class Granted:
    """What is remembered of proofs. Every method raises Faults only."""

    _store: BlobStore

    async def grants(self, *, principal: str = "") -> Result:
        """The grants that count now. Raises Denied."""
        _only_the_owner(principal)
        return {"grants": _shown(await self._store.grants.all())}

    async def revoke(
        self,
        repository: str | None = None,
        *,
        whose: str | None = None,
        everything: bool = False,
        principal: str = "",
    ) -> Result:
        """Take back the grants for a repository, those of a principal (``whose``), or all.

        What was proven has to be proven anew, also to read what is held. A login's principal may
        be shortened to what the log shows of it. Raises Denied, UsageError, ReferenceInvalid.
        """
        _only_the_owner(principal)
        if everything == (repository is not None or whose is not None):
            raise UsageError("say whose access ends: a REPOSITORY, a principal or both, or all")
        name = None if repository is None else Reference.parse(repository, default_tag=None).name
        gone: list[Grant] = []
        for each in await self._meant(whose):
            gone += await self._store.grants.revoke(name, each)
        return {"revoked": _shown(gone)}

    async def _meant(self, whose: str | None) -> Sequence[str | None]:
        if whose is None or not whose.startswith(LOGIN):
            return [whose]
        if len(whose) < SHOWN:
            raise UsageError(f"{whose} may be anybody (give {SHOWN} characters of it at least)")
        held = {grant.principal for grant in await self._store.grants.all()}
        return sorted({whose, *(each for each in held if each.startswith(whose))})


def _only_the_owner(principal: str) -> None:
    if principal:
        raise Denied("only root and the daemon's own user see and end the access of others")


def _shown(grants: Sequence[Grant]) -> list[dict[str, str]]:
    return [
        {
            "repository": grant.repository,
            "principal": grant.principal,
            "expires": moment(grant.expires),
        }
        for grant in grants
    ]
