"""Names in registries and in the cache, as commands for blobs and manifests take them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache.content import Digest
from registryd.cli.command import Context
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference

if TYPE_CHECKING:
    from registryd.ports import Remote

CACHE = "cache:"


@dataclass(frozen=True, slots=True)
class Place:
    """A name, and whether it is to be asked of the daemon in place of its registry."""

    reference: Reference
    cached: bool = False

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read NAME or cache:NAME. Raises ReferenceInvalid."""
        name = text.removeprefix(CACHE)
        return cls(Reference.parse(name, default_tag=None), name != text)

    def exact(self) -> Place:
        """The same, which must have a digest and loses its tag. Raises UsageError."""
        return Place(self.reference.with_digest(self.digest), self.cached)

    def repository(self) -> Place:
        """The same, which must be a repository alone. Raises UsageError."""
        if self.reference.target:
            raise UsageError(f"{self.reference} is not a repository (use {self.reference.name})")
        return self

    @property
    def digest(self) -> Digest:
        """The digest in the name. Raises UsageError."""
        if self.reference.digest is None:
            raise UsageError(f"{self.reference} names no blob (want NAME@sha256:HEX)")
        return self.reference.digest

    def open(self, context: Context) -> AbstractAsyncContextManager[Remote]:
        """Who is asked. Raises as ``direct.open_registry`` does."""
        from registryd.cli.direct import open_registry

        reference = self.reference
        return open_registry(context, reference.registry, reference.repository, cached=self.cached)
