"""A registry that is reached by way of two mirrors, and what each host was asked."""

from __future__ import annotations

from cache.content import Digest
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.remote.remotes import RegistryRemotes
from registryd.secrets import Login
from tests.fakes.registry import FakeRegistry, digest_of

LAYER = b"layer " * 1000
BLOB = Digest.parse(digest_of(LAYER))


class Reached:
    """A client whose registry is reached by way of mirrors, and what each host was asked."""

    def __init__(
        self, remotes: RegistryRemotes, servers: list[FakeRegistry], login: Login | None
    ) -> None:
        self.remotes = remotes
        self.servers = servers
        self.client: RegistryClient = remotes.remote(servers[-1].name, login)  # type: ignore[assignment]
        self.app = Reference(servers[-1].name, "team/app")

    @property
    def asked(self) -> list[int]:
        """How many requests each host has had since this was last looked at."""
        counts = [len(server.requests) for server in self.servers]
        for server in self.servers:
            server.requests.clear()
        return counts

    async def blob(self, start: int = 0) -> tuple[bytes, str]:
        """The layer's bytes, and who sent them."""
        async with self.client.fetch_blob(self.app, BLOB, start) as body:
            return b"".join([piece async for piece in body]), body.source

    async def tag(self) -> str:
        return str((await self.client.resolve(self.app.with_tag("1"))).digest)
