"""A maker of images that does what it was told to: the gateway's port for tests of its rules."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from registryd.gateway.making import Told
from registryd.gateway.record import Account, Setup
from registryd.oci.errors import BlobUnknown, Unauthorized
from registryd.oci.reference import Reference
from registryd.secrets import Login

#: The smallest file that says it is a squashfs 4.0 and whole.
SQUASHFS = struct.pack("<4s24xHH8xQ", b"hsqs", 4, 0, 96).ljust(96, b"\0")


@dataclass
class FakeFound:
    """An image: what it is called, and whether all may have it."""

    id: str
    public: bool = False
    setup: Setup = field(default_factory=Setup)
    content: bytes = SQUASHFS
    conversions: int = 0
    proven: bool = True
    lacks: str = ""

    async def unpack(self, folder: Path) -> None:
        folder.mkdir()

    async def convert(self, target: Path) -> str:
        self.conversions += 1
        if self.lacks:
            raise BlobUnknown(f"it lacks its layer {self.lacks}")
        target.write_bytes(self.content)
        return ""


@dataclass
class FakeMaker:
    """Images by their reference; those in ``private`` want this login.

    ``gate`` is waited for before anything is given; ``seen`` are the logins that came.
    """

    images: dict[str, FakeFound] = field(default_factory=dict)
    private: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[tuple[str, int, Login | None]] = field(default_factory=list)

    async def pull(
        self, reference: Reference, account: Account, login: Login | None, told: Told
    ) -> FakeFound:
        name = str(reference)
        self.seen.append((name, account.uid, login))
        self.begun.set()
        told("Pulling layer sha256:0")
        await self.gate.wait()
        password = self.private.get(name)
        if password is not None and (login is None or login.password.reveal() != password):
            raise Unauthorized(f"{name}: login wanted", status=401)
        return self.images[name]

    @asynccontextmanager
    async def opened(self, file: Path, form: str) -> AsyncIterator[FakeFound]:
        yield self.images[form]
