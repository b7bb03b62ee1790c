"""What ``transfer`` asks of the world: the ports, and the one way in which the world fails.

The rooms of floor 2 (remote, images, cluster, transfer) do not import one another; they meet here.
Every context manager below owns its connection or file and gives it back on leaving.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from cache.content import Descriptor, Digest
from cache.errors import Fault
from registryd.notices import RateLimit
from registryd.oci.errors import RateLimited, RegistryError
from registryd.oci.manifest import Document, Index, IndexEntry
from registryd.oci.reference import Reference
from registryd.secrets import Login, Secret

#: Told in one line what a person should know though the work goes on; it holds no secret.
Warned = Callable[[str], None]


class TransportError(Fault):
    """Raised when a host could not be reached, stalled, or broke off; names the host."""

    exit_code = 6
    code = "UNAVAILABLE"


class Offline(TransportError):
    """Raised instead of asking a registry that the configuration wants left alone."""


def transient(error: TransportError | RegistryError) -> bool:
    """Whether asking again later may give another answer: no clear "no" was said."""
    return isinstance(error, TransportError | RateLimited) or error.status >= 500


class Body(Protocol):
    """A stretch of a blob on its way to us."""

    @property
    def start(self) -> int:
        """Offset in the blob of the first byte that will come (0 when a range was ignored)."""

    @property
    def total(self) -> int | None:
        """Size in bytes of the whole blob as the source says it, or None when it does not say."""

    @property
    def source(self) -> str:
        """Who sends: a host, a path; for people and for progress events."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, in pieces of any size up to about 1 MiB.

        Raises TransportError when the stretch ends short, stalls or breaks.
        """


@dataclass(frozen=True, slots=True)
class Line:
    """The rest of a body as a socket: first ``head``, then ``count`` bytes from ``fd``.

    ``fd`` does not block, and is closed by whoever took the line.
    """

    head: bytes
    fd: int
    count: int


@runtime_checkable
class Wired(Protocol):
    """A body whose connection can be handed over, to be read by threads without the event loop."""

    def take_line(self) -> Line | None:
        """The rest of this body as a socket, or None where the bytes on it are not the blob's own.

        The body gives nothing more after that.
        """


@runtime_checkable
class Bounded(Protocol):
    """A body that says where it ends, so that it is seen at once whether a range was kept to."""

    @property
    def stop(self) -> int | None:
        """Offset in the blob after the last byte that will come, or None when it is not known."""


@runtime_checkable
class Skipping(Protocol):
    """A body that can begin further on, as long as nothing of it was read."""

    async def skip_to(self, start: int) -> bool:
        """Give the bytes from this one on; False: it cannot, and begins where it began."""


@runtime_checkable
class Filed(Protocol):
    """A body that is all of a file, proven when it came to where it lies."""

    @property
    def file(self) -> int | None:
        """The file, open for reading while the body is; None: this one is not."""


#: Told how each request to a registry has ended: its name, and the status (None: no answer).
Answered = Callable[[str, int | None], None]

BodyOpener = Callable[[], AbstractAsyncContextManager[Body]]

#: Where a registry's referrers are looked for: its API, the tag that stands in for it, or (the
#: empty text) the tag where there is no API.
ReferrersWay = Literal["", "api", "tag"]


class Resolver(Protocol):
    """Turns a name into a descriptor."""

    async def resolve(self, reference: Reference) -> Descriptor:
        """The manifest a tag (or digest) means now, without its content where possible.

        Raises ManifestUnknown, Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
        """


class Fetcher(Protocol):
    """Gives content by digest."""

    async def fetch_manifest(self, reference: Reference) -> Document:
        """The manifest or index, parsed, proven against the reference's digest if it has one.

        Raises as resolve does, and DigestMismatch or ManifestInvalid.
        """

    def fetch_blob(
        self, repository: Reference, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AbstractAsyncContextManager[Body]:
        """The blob's bytes from ``start`` up to but not including ``stop`` (None: to its end).

        A source may ignore the range and send everything: ``Body.start`` is 0 then.
        Raises BlobUnknown, Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
        """

    async def blob_size(self, repository: Reference, digest: Digest) -> int | None:
        """The blob's size by HEAD; None when the source does not say. Raises as fetch_blob does."""

    def distrust(self, repository: Reference, digest: Digest) -> bool:
        """Say that the bytes which came of a blob are wrong.

        Whether others can be asked for it, as they will be from now on.
        """

    async def pull_token(self, repository: Reference) -> Secret | None:
        """A short-lived bearer token by which another node may read this repository for us.

        None where the registry gives none to us: it is open, or wants the password itself.
        """


class Pusher(Protocol):
    """Takes content."""

    async def ask_push(self, repository: Reference) -> None:
        """Prove that we may push to a repository, before its bytes are at hand.

        Raises Unauthorized, Denied, NameUnknown, Unsupported, RateLimited, BadAnswer,
        TransportError.
        """

    async def standing(self, reference: Reference) -> Descriptor:
        """What a name means now, where it would be pushed to. Raises as Resolver.resolve does."""

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """Whether the repository has this blob already."""

    async def mount_blob(self, repository: Reference, digest: Digest, source: str) -> bool:
        """Try to take the blob from another repository of the same registry; False: upload it."""

    async def push_blob(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener
    ) -> None:
        """Upload one blob; ``open_body`` can be called again when a try has failed.

        Raises Unauthorized, Denied, RateLimited, UploadInvalid, RegistryError, TransportError.
        """

    async def push_manifest(self, reference: Reference, document: Document) -> bool:
        """Put a manifest under the reference's tag, or under its digest where there is no tag.

        Whether the registry says that it lists it with the referrers of its subject (OCI-Subject).
        """

    async def note_subject(self, repository: Reference, document: Document) -> None:
        """See to it that a manifest that was pushed is listed with the referrers of its subject.

        Where the registry lists it by itself, and for a manifest without a subject, there is
        nothing to do; elsewhere the tag that stands in for the list is changed, and what others
        have written there stays. Raises as push_manifest does.
        """


class Lister(Protocol):
    """Tells what there is. The names after ``last``, sorted, at most ``limit``; all by default."""

    async def tags(
        self, repository: Reference, *, last: str = "", limit: int | None = None
    ) -> list[str]:
        """The tags of a repository. Raises NameUnknown, and as resolve does."""

    async def catalog(self, *, last: str = "", limit: int | None = None) -> list[str]:
        """The repositories. Raises Unsupported where there is no such list; as resolve does."""


class Deleter(Protocol):
    """Takes things away. What is gone already is a success, and False.

    Raises Unsupported where nothing (or nothing by tag) is deleted, Unauthorized, Denied,
    RateLimited, RegistryError, TransportError.
    """

    async def delete_manifest(self, reference: Reference) -> bool:
        """A tag alone; or, where the reference has a digest, the manifest with all its tags."""

    async def delete_blob(self, repository: Reference, digest: Digest) -> bool:
        """A blob of a repository."""


class Remote(Resolver, Fetcher, Pusher, Lister, Deleter, Protocol):
    """One registry, with one login: everything we do with it."""

    async def referrers(
        self,
        repository: Reference,
        digest: Digest,
        *,
        artifact_type: str = "",
        way: ReferrersWay = "",
    ) -> Index:
        """What is attached to a manifest of the repository, as one index; empty when nothing is.

        Each entry has its artifact type and annotations where the registry tells them; with
        ``artifact_type`` only those of this type are there. By the referrers API, and where there
        is none by the tag that stands in for it; ``way`` forces one of the two.
        Raises as resolve does, but a repository that is not there has no referrers; Unsupported
        when the API is forced and not there.
        """

    async def rate_limit(self, reference: Reference | None) -> tuple[str, RateLimit | None]:
        """How many more requests are allowed, asked by HEAD of this name (None: by a ping).

        The account that was asked as ("" without a login), and None where it is not said. Does not
        wait. Raises as resolve does.
        """

    async def ping(self) -> None:
        """Prove that a registry answers and takes our login. Raises as resolve does."""


class Remotes(Protocol):
    """Gives the Remote for a registry's name; keeps connections and tokens between calls."""

    def remote(self, registry: str, login: Login | None = None) -> Remote:
        """The registry by its name in references (``docker.io``).

        ``login`` is the caller's own; None means the ones that this process is configured with.
        Raises Denied when the configuration does not allow this registry.
        """

    def knows_us(self, repository: Reference) -> bool:
        """Whether who takes pushes of a repository knows this node by the way there.

        By a certificate, a header or its user: so that a push would be in the node's name.
        """

    def left_alone(self) -> list[tuple[str, float, str]]:
        """The mirrors that are not asked now: host, seconds until the next try, why."""


class Source(Protocol):
    """An image to copy from: a registry's, a layout's, the cache's."""

    async def root(self) -> Document:
        """The manifest or index that the source's name means."""

    async def manifest(self, descriptor: Descriptor) -> Document:
        """A child manifest or index."""

    def blob(self, descriptor: Descriptor) -> AbstractAsyncContextManager[Body]:
        """A config or layer, whole."""


@runtime_checkable
class Referring(Source, Protocol):
    """A source that knows what is attached to the manifests of its repository or layout."""

    async def referrers(self, digest: Digest) -> tuple[IndexEntry, ...]:
        """What is listed as attached to a manifest; what is listed need not be there."""


class Sink(Protocol):
    """A place to copy an image to. Everything put twice is a success."""

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already."""

    async def put_blob(self, descriptor: Descriptor, open_body: BodyOpener) -> None:
        """Take one blob, proven against its digest."""

    async def put_manifest(self, document: Document, *, root: bool) -> None:
        """Take a manifest, children first; ``root`` comes last and gets the sink's name."""


@runtime_checkable
class Named(Protocol):
    """A source that can say what it is without being read."""

    async def resolve(self) -> Descriptor:
        """The descriptor of its root. Raises as ``Resolver.resolve`` does."""


@runtime_checkable
class Noting(Protocol):
    """A sink that sees to lists of what is attached to what."""

    async def note_subject(self, document: Document) -> None:
        """See to it that a manifest that is there is listed with the referrers of its subject."""


@runtime_checkable
class Surveyed(Protocol):
    """A sink that can say what is there already, without being read from. Its text is its name."""

    async def standing(self) -> Descriptor | None:
        """What its name means now; None: nothing, or it has no name."""

    async def has_whole(self, descriptor: Descriptor) -> bool:
        """Whether this manifest is there for sure, with all that it points to."""


class Inflow(Protocol):
    """What brings the bytes of one blob into its ingest."""

    @property
    def source(self) -> str:
        """Who sends, for people and for progress events."""

    @property
    def received(self) -> int:
        """Bytes that came from the blob's registry."""

    @property
    def whole(self) -> bool:
        """Whether the whole blob is brought, or only what is demanded."""

    @property
    def complete(self) -> bool:
        """Whether every byte is here, as far as it is known how many there are."""

    async def run(self, wanted: Callable[[], bool]) -> None:
        """Bring the whole, or what is demanded as long as that is ``wanted``.

        Raises what the Fetcher raises, SizeMismatch and DiskFull.
        """

    def demand(self, start: int, stop: int) -> AbstractContextManager[None]:
        """Within this block these bytes are brought before all others."""

    def bring_whole(self) -> None:
        """Bring everything from now on."""

    def rest(self) -> None:
        """Say that nobody reads any more, for now."""
