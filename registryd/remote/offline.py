"""A registry that is not asked: a Remote that sends nothing and fails each call in the same words.

Invariant: nothing is sent, no name is resolved, no login is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cache.content import Descriptor, Digest
from registryd.notices import RateLimit
from registryd.oci.manifest import Document, Index
from registryd.oci.reference import Reference
from registryd.ports import Body, BodyOpener, Offline, ReferrersWay, TransportError
from registryd.secrets import Secret


class SilentRegistry:
    """ports.Remote. Every method raises what ``why`` makes."""

    def __init__(self, why: Callable[[], TransportError]) -> None:
        self._why = why

    @classmethod
    def configured(cls, registry: str) -> SilentRegistry:
        """The registry that its configuration wants left alone; its methods raise Offline."""
        section = f'[registries."{registry}"] offline = true'
        return cls(lambda: Offline(f"{registry} is offline by configuration ({section})"))

    async def ping(self) -> None:
        """Raises."""
        raise self._why()

    async def rate_limit(self, reference: Reference | None) -> tuple[str, RateLimit | None]:
        """Raises."""
        raise self._why()

    async def resolve(self, reference: Reference) -> Descriptor:
        """Raises."""
        raise self._why()

    async def fetch_manifest(self, reference: Reference) -> Document:
        """Raises."""
        raise self._why()

    @asynccontextmanager
    async def fetch_blob(
        self, repository: Reference, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[Body]:
        """Raises on entering."""
        raise self._why()
        yield  # what makes it a generator

    async def blob_size(self, repository: Reference, digest: Digest) -> int | None:
        """Raises."""
        raise self._why()

    def distrust(self, repository: Reference, digest: Digest) -> bool:
        """False: there is nobody else."""
        return False

    async def pull_token(self, repository: Reference) -> Secret | None:
        """None: nobody is to ask it for us."""
        return None

    async def tags(
        self, repository: Reference, *, last: str = "", limit: int | None = None
    ) -> list[str]:
        """Raises."""
        raise self._why()

    async def catalog(self, *, last: str = "", limit: int | None = None) -> list[str]:
        """Raises."""
        raise self._why()

    async def delete_manifest(self, reference: Reference) -> bool:
        """Raises."""
        raise self._why()

    async def delete_blob(self, repository: Reference, digest: Digest) -> bool:
        """Raises."""
        raise self._why()

    async def referrers(
        self,
        repository: Reference,
        digest: Digest,
        *,
        artifact_type: str = "",
        way: ReferrersWay = "",
    ) -> Index:
        """Raises."""
        raise self._why()

    async def ask_push(self, repository: Reference) -> None:
        """Raises."""
        raise self._why()

    async def standing(self, reference: Reference) -> Descriptor:
        """Raises."""
        raise self._why()

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """Raises."""
        raise self._why()

    async def mount_blob(self, repository: Reference, digest: Digest, source: str) -> bool:
        """Raises."""
        raise self._why()

    async def push_blob(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener
    ) -> None:
        """Raises."""
        raise self._why()

    async def push_manifest(self, reference: Reference, document: Document) -> bool:
        """Raises."""
        raise self._why()

    async def note_subject(self, repository: Reference, document: Document) -> None:
        """Raises."""
        raise self._why()
