"""One registry: resolve names, fetch manifests and blobs, list tags; push by way of ``upload``.

Invariants:
- a manifest that is given out hashes to the digest it was asked by, and is parsed;
- a HEAD is believed only where a fetch by digest will prove it;
- a blob's body begins where it says it begins: a range is used when it is exactly the one that was
  asked for, and a host that gets ranges wrong once is not asked for them again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from cache.content import Descriptor, Digest
from cache.errors import DigestInvalid, DigestMismatch
from registryd.notices import RateLimit
from registryd.oci.errors import BadAnswer, BlobUnknown, ManifestInvalid, RegistryError
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, parse
from registryd.oci.media_types import ACCEPT, DOCUMENTS, essence
from registryd.oci.ranges import ContentRange, format_range
from registryd.oci.reference import Reference
from registryd.oci.routes import BlobRoute, ManifestRoute, Ping
from registryd.ports import Body, BodyOpener, ReferrersWay
from registryd.remote.answer import Answer
from registryd.remote.authority import Asked
from registryd.remote.blob_head import head_blob
from registryd.remote.body import RemoteBody
from registryd.remote.catalog import list_repositories
from registryd.remote.coding import undo
from registryd.remote.deletion import delete_blob, delete_manifest
from registryd.remote.exchange import PULL, Call, Exchange, scope
from registryd.remote.rate_limit import read_rate_limit
from registryd.remote.referrers import Listing, list_referrers
from registryd.remote.retry import PASSING
from registryd.remote.subjects import Subjects
from registryd.remote.tag_pages import list_tags
from registryd.remote.upload import Uploader
from registryd.remote.upload_journal import UploadJournal
from registryd.secrets import Secret

#: A registry's answer to a ping is a few bytes.
PING_LIMIT = 2**20
#: Refusals of a HEAD that a GET would only repeat, and pay for.
HEAD_IS_FINAL = frozenset({404, *PASSING})


class RegistryClient:
    """A registry with one choice of logins: ports.Remote."""

    def __init__(self, exchange: Exchange, journal: UploadJournal | None = None) -> None:
        self._exchange = exchange
        self._uploader = Uploader(exchange, journal)
        self._subjects = Subjects(exchange, self._fetch_written, self.push_manifest)

    @property
    def registry(self) -> str:
        """The registry's name in references."""
        return self._exchange.registry

    def asks(self, repository: Reference) -> Asked:
        """What the registry has asked for so far, of who reads this repository."""
        return self._exchange.asks(repository.repository)

    async def ping(self) -> None:
        """Prove that a registry answers and takes our login.

        Raises BadAnswer for what is not a registry, and as ``resolve`` does.
        """
        what = f"cannot log in to {self.registry}"
        async with self._exchange.send(Call("GET", Ping().path(), what)) as answer:
            # 404 is what some registries say here that are registries all the same.
            if answer.status not in (200, 404):
                raise await self._exchange.refusal(answer, what)
            if "Docker-Distribution-Api-Version" not in answer.headers:
                body = undo(await answer.head(PING_LIMIT), answer.coding, PING_LIMIT)
                if not _is_json(body):
                    _check_not_page(answer, body)

    async def rate_limit(self, reference: Reference | None) -> tuple[str, RateLimit | None]:
        """Our account there, and how many more requests it is allowed (ports.Remote).

        A HEAD of a manifest is not counted by those who count. Raises as ``resolve`` does.
        """
        if reference is None:
            call = Call("GET", Ping().path(), f"cannot ask {self.registry}")
        else:
            call = self._manifest_call("HEAD", reference)
        # The registry itself is asked, and no mirror; and once, without waiting for it.
        call = replace(call, home=True, repeatable=False, patient=False)
        async with self._exchange.send(call) as answer:
            if answer.status not in (200, 404) or (reference and answer.status == 404):
                raise await self._exchange.refusal(answer, call.what)
            found = read_rate_limit(answer.headers)
        return await self._exchange.account(call.repository), found

    async def pull_token(self, repository: Reference) -> Secret | None:
        """A short-lived bearer token of our login for this repository, or None.

        Raises Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
        """
        return await self._exchange.pull_token(repository.repository)

    async def resolve(self, reference: Reference) -> Descriptor:
        """The manifest a tag (or digest) means now: by HEAD, by GET where that does not tell.

        Raises ManifestUnknown, Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
        """
        descriptor = await self._head(self._manifest_call("HEAD", reference), reference)
        return descriptor or (await self.fetch_manifest(reference)).descriptor

    async def standing(self, reference: Reference) -> Descriptor:
        """What a name means where it would be pushed to. Raises as ``resolve`` does."""
        call = replace(self._manifest_call("HEAD", reference), written=True)
        descriptor = await self._head(call, reference)
        return descriptor or (await self._fetch_written(reference)).descriptor

    async def _head(self, call: Call, reference: Reference) -> Descriptor | None:
        """What a HEAD tells of a manifest; None where it does not tell all of it."""
        async with self._exchange.send(call) as answer:
            if answer.status in HEAD_IS_FINAL:
                raise await self._exchange.refusal(answer, _refused_words(answer, reference))
            descriptor = _described(answer) if answer.status == 200 else None
        if descriptor is None or reference.digest not in (None, descriptor.digest):
            return None
        return descriptor

    async def fetch_manifest(self, reference: Reference) -> Document:
        """The manifest or index, parsed, proven against the reference's digest if it has one.

        Raises as ``resolve`` does, DigestMismatch and ManifestInvalid.
        """
        call = self._manifest_call("GET", reference)
        while True:
            try:
                return await self._fetch_manifest(call, reference)
            except (DigestMismatch, ManifestInvalid, BadAnswer):
                if not self._exchange.distrust(str(call.target)):
                    raise

    async def _fetch_written(self, reference: Reference) -> Document:
        """As ``fetch_manifest``, from where it would be pushed to."""
        call = replace(self._manifest_call("GET", reference), written=True)
        return await self._fetch_manifest(call, reference)

    async def _fetch_manifest(self, call: Call, reference: Reference) -> Document:
        async with self._exchange.send(call) as answer:
            if answer.status != 200:
                raise await self._exchange.refusal(answer, _refused_words(answer, reference))
            raw = await answer.read(MANIFEST_LIMIT)
            _check_not_page(answer, raw)
            try:
                return _parse(raw, answer, reference.digest)
            except (DigestMismatch, ManifestInvalid) as error:
                raise type(error)(f"{reference} from {answer.host}: {error}") from error

    def _manifest_call(self, method: str, reference: Reference) -> Call:
        route = ManifestRoute(reference.repository, reference.target)
        return Call(
            method,
            route.path(),
            f"cannot find {reference}",
            reference.repository,
            (scope(reference.repository),),
            headers={"Accept": ACCEPT},
        )

    @asynccontextmanager
    async def fetch_blob(
        self, repository: Reference, digest: Digest, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[Body]:
        """The blob's bytes from ``start`` up to ``stop``; all of them where ranges do not work.

        Raises BlobUnknown, Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
        """
        ranged = start > 0 or stop is not None
        async with AsyncExitStack() as stack:
            body = None
            if ranged:
                answer = await self._ask_blob(stack, repository, digest, format_range(start, stop))
                body = await self._ranged_body(answer, repository, digest, start, stop)
            if body is None:
                answer = await self._ask_blob(stack, repository, digest)
                body = await self._whole_body(answer, repository, digest)
            yield body

    async def _ask_blob(
        self,
        stack: AsyncExitStack,
        repository: Reference,
        digest: Digest,
        wanted: str = "",
    ) -> Answer:
        call = Call(
            "GET",
            BlobRoute(repository.repository, digest).path(),
            _blob_words(repository, digest),
            repository.repository,
            (scope(repository.repository),),
            headers={"Range": wanted} if wanted else {},
        )
        return await stack.enter_async_context(self._exchange.send(call))

    async def _ranged_body(
        self, answer: Answer, repository: Reference, digest: Digest, start: int, stop: int | None
    ) -> Body | None:
        """The body of an answer to a Range; None when the whole blob has to be asked for."""
        if answer.status == 200:
            return await self._whole_body(answer, repository, digest)
        if answer.status == 416:
            await answer.drain()
            # Nothing is left from there: what we have is whole already.
            return RemoteBody(answer, start, start, start) if _total(answer) == start else None
        if answer.status in (400, 501):
            answer.ranges_fail()
            await answer.drain()
            return None
        if answer.status != 206:
            raise await self._refused_blob(answer, repository, digest)
        sent = _content_range(answer)
        whole = sent.total if sent else None
        wanted_stop = whole if stop is None or (whole is not None and whole < stop) else stop
        if sent is None or sent.start != start or wanted_stop not in (None, sent.stop):
            answer.ranges_fail()
            answer.close()
            return None
        return RemoteBody(answer, start, sent.stop, whole)

    async def _whole_body(self, answer: Answer, repository: Reference, digest: Digest) -> Body:
        if answer.status != 200:
            raise await self._refused_blob(answer, repository, digest)
        if essence(answer.content_type) == "text/html":
            raise _not_registry(answer)
        return RemoteBody(answer, 0, answer.length, answer.length)

    async def _refused_blob(
        self, answer: Answer, repository: Reference, digest: Digest
    ) -> RegistryError:
        return await self._exchange.refusal(answer, _blob_words(repository, digest), BlobUnknown)

    def distrust(self, repository: Reference, digest: Digest) -> bool:
        """Say that the bytes which came of a blob are wrong; whether another host can be asked."""
        return self._exchange.distrust(BlobRoute(repository.repository, digest).path())

    async def blob_size(self, repository: Reference, digest: Digest) -> int | None:
        """The blob's size; None when the registry does not say. Raises as ``fetch_blob`` does."""
        head = await head_blob(self._exchange, repository, digest, PULL)
        if head.there:
            return head.size
        # Hosts of presigned URLs often refuse a HEAD: ask for one byte and see of how many.
        async with self.fetch_blob(repository, digest, 0, 1) as body:
            return body.total

    async def tags(
        self, repository: Reference, *, last: str = "", limit: int | None = None
    ) -> list[str]:
        """The tags of a repository after ``last``, sorted, at most ``limit``; all by default.

        Raises NameUnknown, Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
        """
        return await list_tags(self._exchange, repository, last=last, limit=limit)

    async def catalog(self, *, last: str = "", limit: int | None = None) -> list[str]:
        """The repositories after ``last``, sorted, at most ``limit``; all by default.

        Raises Unsupported, Denied, RateLimited, BadAnswer, TransportError.
        """
        return await list_repositories(self._exchange, last=last, limit=limit)

    async def delete_manifest(self, reference: Reference) -> bool:
        """Take a tag away, or a manifest by its digest; False: it was not there.

        Raises Unsupported, Unauthorized, Denied, RateLimited, RegistryError, TransportError.
        """
        return await delete_manifest(self._exchange, reference)

    async def delete_blob(self, repository: Reference, digest: Digest) -> bool:
        """Take a blob away; False: it was not there. Raises as ``delete_manifest`` does."""
        return await delete_blob(self._exchange, repository, digest)

    async def referrers(
        self,
        repository: Reference,
        digest: Digest,
        *,
        artifact_type: str = "",
        way: ReferrersWay = "",
    ) -> Index:
        """What is attached to a manifest, as one index; empty when nothing is.

        Raises Unauthorized, Denied, RateLimited, BadAnswer, Unsupported, TransportError.
        """
        listing = Listing(repository, digest, artifact_type)
        return await list_referrers(self._exchange, self.fetch_manifest, listing, way)

    async def ask_push(self, repository: Reference) -> None:
        """Prove that we may push to a repository. Raises as ``push_blob`` does, and NameUnknown."""
        await self._uploader.ask_push(repository)

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """Whether the repository has this blob already. Raises as ``push_blob`` does."""
        return await self._uploader.has_blob(repository, digest)

    async def mount_blob(self, repository: Reference, digest: Digest, source: str) -> bool:
        """Try to take the blob from another repository of this registry; False: upload it."""
        return await self._uploader.mount_blob(repository, digest, source)

    async def push_blob(
        self, repository: Reference, descriptor: Descriptor, open_body: BodyOpener
    ) -> None:
        """Upload one blob; ``open_body`` is called again when a try has failed.

        Raises Unauthorized, Denied, RateLimited, UploadInvalid, RegistryError, TransportError.
        """
        await self._uploader.push_blob(repository, descriptor, open_body)

    async def push_manifest(self, reference: Reference, document: Document) -> bool:
        """Put a manifest under the reference's tag, or under its digest where there is no tag.

        Whether the registry says that it lists it with the referrers of its subject.
        Raises Unauthorized, Denied, RateLimited, ManifestInvalid, ManifestBlobUnknown,
        RegistryError, TransportError.
        """
        return await self._uploader.push_manifest(reference, document)

    async def note_subject(self, repository: Reference, document: Document) -> None:
        """List a pushed manifest with the referrers of its subject. Raises as push_manifest."""
        await self._subjects.note(repository, document)


def _described(answer: Answer) -> Descriptor | None:
    """The descriptor that a HEAD tells; None when it does not tell all of it."""
    media_type = essence(answer.content_type)
    encoded = answer.headers.get("Content-Encoding", "identity").lower() != "identity"
    if media_type not in DOCUMENTS or not answer.length or encoded:
        return None
    try:
        digest = Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
    except DigestInvalid:
        return None
    return Descriptor(media_type, digest, answer.length)


def _parse(raw: bytes, answer: Answer, expected: Digest | None) -> Document:
    """The document in a body; undone is an encoding that was added on the way, if it was."""
    try:
        return parse(raw, answer.content_type, expected)
    except (DigestMismatch, ManifestInvalid):
        decoded = undo(raw, answer.coding, MANIFEST_LIMIT)
        if decoded == raw:
            raise
        return parse(decoded, answer.content_type, expected)


def _content_range(answer: Answer) -> ContentRange | None:
    try:
        return ContentRange.parse(answer.headers.get("Content-Range", ""))
    except BadAnswer:
        return None


def _total(answer: Answer) -> int | None:
    sent = _content_range(answer)
    return None if sent is None else sent.total


def _refused_words(answer: Answer, reference: Reference) -> str:
    """How the line about a manifest begins that we did not get: 404 alone says it is not there."""
    return f"cannot {'find' if answer.status == 404 else 'resolve'} {reference}"


def _blob_words(repository: Reference, digest: Digest) -> str:
    return f"cannot fetch blob {digest} of {repository.name}"


def _is_json(body: bytes) -> bool:
    """Whether this is JSON: some registries call theirs a web page."""
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _check_not_page(answer: Answer, body: bytes) -> None:
    if essence(answer.content_type) == "text/html" or body.lstrip()[:1] == b"<":
        raise _not_registry(answer)


def _not_registry(answer: Answer) -> BadAnswer:
    return BadAnswer(
        f"{answer.host} answers with a web page: it is not a registry, or wants a log-in by browser"
    )
