"""What the gateway asks of those who move and convert images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from registryd.gateway.record import Account, Setup
from registryd.oci.reference import Reference
from registryd.secrets import Login

Told = Callable[[str], None]


class Found(Protocol):
    """An image whose layers are here. Every method raises Faults only."""

    @property
    def id(self) -> str:
        """The digest of its manifest, in hex."""

    @property
    def public(self) -> bool:
        """Whether its registry gives it to everybody."""

    @property
    def proven(self) -> bool:
        """Whether who asks is known to have all of it, and not its manifest alone."""

    @property
    def setup(self) -> Setup:
        """What it says of running it."""

    async def unpack(self, folder: Path) -> None:
        """Make its root in an empty folder."""

    async def convert(self, target: Path) -> str:
        """Make it a squashfs in a new file; the file's sha256 (hex), "" where nobody knows it."""


class Maker(Protocol):
    """Brings images here. Every method raises Faults only."""

    async def pull(
        self, reference: Reference, account: Account, login: Login | None, told: Told
    ) -> Found:
        """Bring an image of a registry, in this user's name; ``told`` hears how far it is."""

    def opened(self, file: Path, form: str) -> AbstractAsyncContextManager[Found]:
        """The one image of an archive (``oci-archive``, ``docker-archive``)."""
