"""One blob on its way between a registry and this process: where it is read, and how it is told."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager

from cache.content import Descriptor, Digest
from registryd.cli.progress import Progress
from registryd.config import TransferConfig
from registryd.oci.errors import BadAnswer
from registryd.oci.media_types import OCTET_STREAM
from registryd.oci.reference import Reference
from registryd.ports import Body, Remote
from registryd.transfer import report as events
from registryd.transfer.endpoints import RegistrySource
from registryd.transfer.report import Kind, ProgressLimit, State


async def found(
    remote: Remote, repository: Reference, digest: Digest, settings: TransferConfig
) -> tuple[Descriptor, AbstractAsyncContextManager[Body]]:
    """A blob's descriptor, and its bytes, which go on over a new connection when one breaks.

    Raises BlobUnknown, and as ``ports.Fetcher`` does.
    """
    size = await remote.blob_size(repository, digest)
    if size is None:
        raise BadAnswer(f"{repository.registry} does not say how large {digest} is")
    descriptor = Descriptor(OCTET_STREAM, digest, size)
    return descriptor, RegistrySource(remote, repository, settings).blob(descriptor)


class Told:
    """Tells of one blob: its state, and how far it is."""

    def __init__(
        self, report: Progress, digest: Digest, size: int, state: State, *, source: str = ""
    ) -> None:
        self._report = report
        self._descriptor = Descriptor(OCTET_STREAM, digest, size)
        self._limit = ProgressLimit(report, time.monotonic)
        self._say(state, source)

    def moved(self, offset: int) -> None:
        """It has come to this offset."""
        self._limit.advance(self._descriptor.digest, offset, self._descriptor.size)

    def done(self, state: State = "done") -> None:
        """It is there."""
        self._say(state)

    def _say(self, state: State, source: str = "") -> None:
        kind: Kind = "layer"
        self._report(events.blob(self._descriptor, kind, state, source=source))
