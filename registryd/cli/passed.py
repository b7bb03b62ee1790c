"""An image of a daemon's cache, whose blobs the daemon gives as open files.

Invariants:
- who may not have a file, or asks a daemon that passes none, reads what the daemon sends instead:
  its answer is the one that says why;
- a file that came is closed, whoever was cancelled meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from pathlib import Path

from cache.content import Descriptor, Digest
from cache.errors import Fault
from registryd.cli.socket_client import SocketBackend
from registryd.images.files import FileBody, in_thread
from registryd.oci.manifest import Document, IndexEntry
from registryd.oci.reference import Reference
from registryd.ports import Body
from registryd.secrets import Login
from registryd.transfer.endpoints import RegistrySource


class PassedSource:
    """One image of the cache of the daemon on a socket (a ``ports.Source``).

    ``served`` is the same image as the daemon sends it; its manifests come from there.
    """

    def __init__(
        self, served: RegistrySource, socket: Path, reference: Reference, login: Login | None
    ) -> None:
        self._served = served
        self._socket = socket
        self._reference = reference
        self._login = login

    async def resolve(self) -> Descriptor:
        """What the reference means now, by HEAD. Raises as ``RegistrySource.resolve`` does."""
        return await self._served.resolve()

    async def root(self) -> Document:
        """What the reference means. Raises as ``RegistrySource.root`` does."""
        return await self._served.root()

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest. Raises as ``RegistrySource.manifest`` does."""
        return await self._served.manifest(descriptor)

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is attached to a manifest. Raises as ``RegistrySource.referrers`` does."""
        return await self._served.referrers(digest)

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer, whole. Raises as ``RegistrySource.blob`` does on entering."""
        return self._blob(descriptor)

    @asynccontextmanager
    async def _blob(self, descriptor: Descriptor) -> AsyncIterator[Body]:
        files = ExitStack()  # the thread itself registers what came: a cancellation loses nothing
        try:
            file = await in_thread(self._opened, files, descriptor.digest)
            if file is None:
                async with self._served.blob(descriptor) as body:
                    yield body
            else:
                yield _PassedBody(file, self._socket, descriptor.size)
        finally:
            await in_thread(files.close)

    def _opened(self, files: ExitStack, digest: Digest) -> int | None:
        daemon = SocketBackend(self._socket)  # one each: blobs are asked for side by side
        try:
            file = daemon.opened(str(self._reference), str(digest), self._login)
        except Fault:
            return None
        finally:
            daemon.close()
        files.callback(os.close, file)
        return file


class _PassedBody(FileBody):
    """A blob of the daemon's, which was proven when it came there (``ports.Filed``)."""

    def __init__(self, file: int, path: Path, size: int) -> None:
        super().__init__(file, path, size)
        self.file: int | None = file
