"""What a destination has already, found out before anything is moved.

Invariants:
- nothing is read from a destination: a registry is asked by HEAD, and for nothing else;
- a name that must not be overwritten and means something else is an error before the first byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.content import Descriptor
from cache.errors import Fault
from registryd.oci.errors import Denied, Unauthorized, UsageError
from registryd.oci.manifest import Document
from registryd.ports import Named, Sink, Source, Surveyed


class WouldOverwrite(Fault):
    """Raised when a name at the destination means something else, and is to stay as it is."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the destination's name means now (None: nothing, or nobody can say)."""

    source: Source
    sink: Sink
    found: Descriptor | None
    clobber: bool

    async def same(self) -> Descriptor | None:
        """The source's root where it is known without reading, and stands there whole.

        Raises WouldOverwrite, and as the source's ``resolve`` does.
        """
        if self.found is None or not isinstance(self.source, Named):
            return None
        root = await self.source.resolve()
        self.check(root)
        return root if await self.has(root, None) else None

    async def root(self) -> Document:
        """The source's root, read."""
        return await self.source.root()

    def check(self, root: Descriptor) -> None:
        """Raise WouldOverwrite when this root would take the place of another that has to stay."""
        if self.clobber or self.found is None or self.found.digest == root.digest:
            return
        raise WouldOverwrite(
            f"{self.sink} is {self.found.digest} already, and the source is {root.digest}: left as"
            " it is (--no-clobber)"
        )

    async def has(self, root: Descriptor, below: Sequence[Descriptor] | None) -> bool:
        """Whether this root stands there, with these children (None: with everything)."""
        if self.found is None or self.found.digest != root.digest:
            return False
        if not isinstance(self.sink, Surveyed):
            return False
        for descriptor in [root] if below is None else below:
            if not await self.sink.has_whole(descriptor):
                return False
        return True


async def look(source: Source, sink: Sink, clobber: bool) -> Standing:
    """Ask the destination what its name means. Raises UsageError where it cannot be asked."""
    found = None
    if isinstance(sink, Surveyed):
        try:
            found = await sink.standing()
        except (Denied, Unauthorized):
            # Some registries say this of a repository that its first push will make.
            if not clobber:
                raise
    elif not clobber:
        raise UsageError("--no-clobber: this destination cannot say what it holds already")
    return Standing(source, sink, found, clobber)
