"""Lists that come page by page, and that of tags (distribution specification 1.1, "Listing Tags").

Invariants:
- pages are followed on the registry's own host only, each one once, and not for ever;
- what comes back is sorted, without duplicates, and holds tags only: some registries list digests;
- a registry that does not know ``last`` or ``n`` gives the same list as one that does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from yarl import URL

from registryd.oci.errors import BadAnswer, NameUnknown
from registryd.oci.reference import Reference
from registryd.oci.routes import TagsRoute
from registryd.remote.answer import Answer
from registryd.remote.exchange import Call, Exchange, scope
from registryd.remote.hosts import resolve_location

#: What we ask for; more is an error at some registries.
PAGE = 1000
PAGES_LIMIT = 10_000
#: Some registries send all tags at once, whatever was asked for.
PAGE_BODY_LIMIT = 64 * 2**20
#: Refusals that are not about ``n``.
NOT_ABOUT_PAGING = frozenset({401, 403, 404, 429})

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# One pass: what begins anew at each "<" would take a minute for a header of them alone.
_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[^,;\s]+)*)")
_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', re.IGNORECASE)


async def list_tags(
    exchange: Exchange, repository: Reference, *, last: str = "", limit: int | None = None
) -> list[str]:
    """The tags after ``last``, at most ``limit``; all by default.

    Raises NameUnknown, BadAnswer, and as ``Exchange.send`` does.
    """
    name = repository.repository
    what = f"cannot list the tags of {repository.name}"
    call = Call("GET", TagsRoute(name).path(), what, name, (scope(name),))
    found = await read_pages(exchange, call, "tags", last=last, limit=limit)
    return chosen((tag for tag in found if _TAG.fullmatch(tag)), last, limit)


async def read_pages(
    exchange: Exchange, call: Call, member: str, *, last: str, limit: int | None
) -> set[str]:
    """The texts that a list has under ``member``, of as many pages as ``limit`` needs.

    Raises NameUnknown, BadAnswer, and as ``Exchange.send`` does.
    """
    found: set[str] = set()
    seen: set[URL] = set()
    after = f"last={quote(last, safe='')}" if last else ""
    page = f"n={PAGE if limit is None else min(limit, PAGE)}"
    call = replace(call, query="&".join(filter(None, (page, after))))
    for _ in range(PAGES_LIMIT):
        async with exchange.send(call) as answer:
            if call.query != after and _refuses_page_size(answer):
                call = replace(call, query=after)
                continue
            if answer.status != 200:
                raise await exchange.refusal(answer, call.what, NameUnknown)
            found |= set(_texts(await answer.plain(PAGE_BODY_LIMIT), member, answer.host))
            seen.add(answer.url)
            target = next_page(answer, seen, member)
        if target is None or (limit is not None and len(found) >= limit):
            return found
        call, after = replace(call, target=target, query=""), ""
    raise BadAnswer(f"{call.what}: the list of {member} has no end ({PAGES_LIMIT} pages)")


def chosen(found: Iterable[str], last: str, limit: int | None) -> list[str]:
    """These in order, as they were asked for: some registries do not know ``last`` or ``n``."""
    listed = sorted(found)
    if last in listed:
        listed = [item for item in listed if item > last]
    return listed[:limit]


def _refuses_page_size(answer: Answer) -> bool:
    return 400 <= answer.status < 500 and answer.status not in NOT_ABOUT_PAGING


def _texts(raw: bytes, member: str, host: str) -> Iterator[str]:
    try:
        content: Any = json.loads(raw)
        listed = content[member] or []
        if not isinstance(listed, list):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadAnswer(f"{host} did not answer with a list of {member}") from None
    return (item for item in listed if isinstance(item, str))


def next_page(answer: Answer, seen: set[URL], of: str = "tags") -> URL | None:
    """The URL of the next page of a list of these; None after the last one. Raises BadAnswer."""
    link = find_next(", ".join(answer.headers.getall("Link", [])))
    if link is None:
        return None
    try:
        page = resolve_location(answer.url, link)
    except ValueError:
        raise BadAnswer(f"{answer.host} links its next page of {of} to what is no URL") from None
    if page.host != answer.url.host:
        raise BadAnswer(f"{answer.host} links its next page of {of} to another host")
    page = _at_path_asked(answer.url, page)
    return None if page in seen or _stands_still(answer.url, page) else page


def _at_path_asked(asked: URL, page: URL) -> URL:
    """The next page below the path by which we reached this one.

    A registry behind a proxy may write the path that it knows itself by, which leads nowhere here.
    """
    _, api, rest = asked.raw_path.partition("/v2/")
    if not api or page.raw_path == asked.raw_path or not page.raw_path.endswith(api + rest):
        return page
    return URL(f"{page.origin()}{asked.raw_path}?{page.raw_query_string}", encoded=True)


def _stands_still(asked: URL, page: URL) -> bool:
    """Whether a page goes on after the same entry as the one before it: a list without end."""
    last = page.query.get("last")
    return last is not None and last == asked.query.get("last")


def find_next(header: str) -> str | None:
    """The target of the link to the next page in a Link header (RFC 8288), or None."""
    for match in _LINK.finditer(header):
        if _NEXT.search(match[2]):
            return match[1].strip()
    return None
