"""Who asks, and for what: what operations on an image begin with."""

from __future__ import annotations

from contextlib import AbstractContextManager

from registryd.access import OWNER, Caller
from registryd.notices import Notice, Waiting
from registryd.oci.manifest import Document, Index
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations.node import Node
from registryd.ports import Remote
from registryd.secrets import Login
from registryd.transfer import report as events
from registryd.transfer.report import Report


class Asking:
    """Lets callers in, and finds what they mean. Every method raises Faults only."""

    _node: Node

    async def _admit(
        self, reference: Reference, login: Login | None, principal: str
    ) -> Remote | None:
        caller = Caller(principal, login) if principal or login else OWNER
        tags = self._node.library.tags
        return await self._node.access.admit(caller, reference, lambda r: tags.prove(r, reference))

    def _told(
        self, name: Reference, caller: Caller, report: Report
    ) -> AbstractContextManager[None]:
        """Within this, events tell what the registry of a name lets us know.

        Of allowances only the caller's own: as whom others (and this node) log in is theirs.
        """
        own = "" if caller.login is None else caller.login.username

        def tell(notice: Notice) -> None:
            if not caller.principal or isinstance(notice, Waiting) or notice.account in ("", own):
                report(events.notice(notice))

        return self._node.notices.heard(name.registry, tell)

    async def _select(
        self, remote: Remote | None, name: Reference, document: Document, wanted: Platform
    ) -> Document:
        while isinstance(document, Index):
            chosen = document.select(wanted).descriptor
            document = await self._node.library.document(remote, name.with_digest(chosen.digest))
        return document
