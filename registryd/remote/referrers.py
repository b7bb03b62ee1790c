"""What is attached to a manifest (distribution specification 1.1, "Listing Referrers").

Invariants:
- pages are followed on the registry's own host only, each one once, and not for ever;
- a filter that a registry does not say it has applied is applied here;
- where there is no API, the tag that stands in for it counts only when it is a list of referrers:
  some registries give the manifest itself for a tag that is made of its digest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from yarl import URL

from cache.content import Digest
from registryd.oci.errors import (
    BadAnswer,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    Unsupported,
)
from registryd.oci.manifest import MANIFEST_LIMIT, Document, Index, IndexEntry, listing, parse
from registryd.oci.media_types import OCI_INDEX, essence
from registryd.oci.reference import Reference
from registryd.oci.referrers import fallback_tag, referrers_in
from registryd.oci.routes import ReferrersRoute
from registryd.ports import ReferrersWay
from registryd.remote.answer import Answer
from registryd.remote.exchange import Call, Exchange, scope
from registryd.remote.tag_pages import next_page

#: Pages that are followed; a page of a registry has hundreds of entries.
PAGES_LIMIT = 1000
#: Entries of one list: enough for an image that is signed every hour for years.
ENTRIES_LIMIT = 50_000
#: What is said for a path that a registry does not know. Some answer with a page for people.
NO_API = frozenset({400, 404, 405, 406, 501})

FetchManifest = Callable[[Reference], Awaitable[Document]]


@dataclass(frozen=True, slots=True)
class Listing:
    """What is asked: the referrers of a manifest, all or those of one type.

    ``written``: of the host that takes pushes.
    """

    repository: Reference
    subject: Digest
    artifact_type: str = ""
    written: bool = False

    @property
    def what(self) -> str:
        """How an error line begins."""
        return f"cannot list the referrers of {self.repository.name}@{self.subject}"


@dataclass(frozen=True, slots=True)
class _Page:
    """Some of the entries, the URL that gave them, and where the others are."""

    url: URL
    entries: tuple[IndexEntry, ...]
    rest: URL | None = None


async def list_referrers(
    exchange: Exchange, fetch: FetchManifest, wanted: Listing, way: ReferrersWay = ""
) -> Index:
    """The referrers as one index. Raises Unsupported, BadAnswer, and as ``Exchange.send`` does."""
    found = None if way == "tag" else await list_by_api(exchange, wanted)
    if found is None and way == "api":
        raise Unsupported(f"{wanted.what}: {exchange.registry} has no referrers API", status=404)
    if found is None:
        found = listing(_of_type(await list_by_tag(fetch, wanted), wanted.artifact_type))
    return found


async def list_by_api(exchange: Exchange, wanted: Listing) -> Index | None:
    """What the referrers API says; None where there is none. Raises as ``list_referrers`` does."""
    page = await _first_page(exchange, wanted)
    if page is None:
        return None
    found, seen = list(page.entries), {page.url}
    for _ in range(PAGES_LIMIT):
        if page.rest is None or page.rest in seen:
            return listing(found)
        if len(found) > ENTRIES_LIMIT:
            break
        seen.add(page.rest)
        async with exchange.send(_call(wanted, page.rest)) as answer:
            if answer.status != 200:
                raise await exchange.refusal(answer, wanted.what, ManifestUnknown)
            page = await _page(answer, wanted)
        found += page.entries
    raise BadAnswer(f"{wanted.what}: the list has no end ({len(found)} entries so far)")


async def offers_api(exchange: Exchange, wanted: Listing) -> bool:
    """Whether a registry has the referrers API. Raises as ``list_referrers`` does."""
    return await _first_page(exchange, wanted) is not None


async def _first_page(exchange: Exchange, wanted: Listing) -> _Page | None:
    """What the API answers; None where there is none."""
    path = ReferrersRoute(wanted.repository.repository, wanted.subject).path()
    query = urlencode({"artifactType": wanted.artifact_type}) if wanted.artifact_type else ""
    async with exchange.send(_call(wanted, path, query)) as answer:
        if answer.status in NO_API:
            return None
        if answer.status != 200:
            raise await exchange.refusal(answer, wanted.what, ManifestUnknown)
        try:
            return await _page(answer, wanted)
        except BadAnswer:
            # A web page, or what is served for every path: nobody here knows of referrers.
            if essence(answer.content_type) == OCI_INDEX:
                raise
            return None


def _call(wanted: Listing, target: str | URL, query: str = "") -> Call:
    name = wanted.repository.repository
    headers = {"Accept": OCI_INDEX}
    call = Call("GET", target, wanted.what, name, (scope(name),), query=query, headers=headers)
    return replace(call, written=wanted.written)


async def _page(answer: Answer, wanted: Listing) -> _Page:
    """What a 200 says. Raises BadAnswer when that is no list."""
    raw = await answer.plain(MANIFEST_LIMIT)
    try:
        document = parse(raw, answer.content_type)
    except ManifestInvalid as error:
        raise BadAnswer(f"{wanted.what}: {answer.host} sends what is no index: {error}") from error
    if not isinstance(document, Index):
        raise BadAnswer(f"{wanted.what}: {answer.host} sends a manifest, which is no list")
    applied = {word.strip() for word in answer.headers.get("OCI-Filters-Applied", "").split(",")}
    entries = document.entries
    if "artifactType" not in applied:
        entries = _of_type(entries, wanted.artifact_type)
    return _Page(answer.url, entries, next_page(answer, {answer.url}, "referrers"))


def _of_type(entries: Iterable[IndexEntry], wanted: str) -> tuple[IndexEntry, ...]:
    return tuple(entry for entry in entries if wanted in ("", entry.artifact_type))


async def list_by_tag(fetch: FetchManifest, wanted: Listing) -> tuple[IndexEntry, ...]:
    """The entries of the tag that stands in for the list; none where there is no such list.

    Raises Unauthorized, Denied, RateLimited, BadAnswer, TransportError.
    """
    found = await fetch_tag(fetch, wanted.repository, wanted.subject)
    return () if found is None else referrers_in(found, wanted.subject)


async def fetch_tag(fetch: FetchManifest, repository: Reference, subject: Digest) -> Index | None:
    """The index under the tag that stands in for the list of referrers; None without one."""
    try:
        found = await fetch(repository.bare().with_tag(fallback_tag(subject)))
    except ManifestUnknown:
        return None
    except NameUnknown as error:
        if error.status != 404:
            raise
        return None
    # Some registries give the manifest itself for a tag that is made of its digest.
    return found if isinstance(found, Index) and found.digest != subject else None
