"""What a scripted registry lists: tags, repositories, referrers (specification 1.1, "Pull")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode

from aiohttp import web

from tests.fakes.http import Reply, error, reply
from tests.fakes.values import OCI_INDEX, Repository, digest_of

if TYPE_CHECKING:
    from tests.fakes.registry import FakeRegistry


class Listings:
    """The lists of one registry."""

    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry

    def tags(self, request: web.BaseRequest, name: str) -> Reply:
        traits, repositories = self._registry.traits.lists, self._registry.repositories
        if name not in repositories or not traits.tags:
            return error(404, "NAME_UNKNOWN" if traits.tags else "NOT_FOUND")
        listed = sorted(repositories[name].tags)
        if traits.digests:
            listed += sorted(set(repositories[name].manifests) - set(listed))
        return self._paged(request, {"name": name}, "tags", listed)

    def catalog(self, request: web.BaseRequest) -> Reply:
        if not self._registry.traits.lists.catalog:
            return error(404, "UNSUPPORTED", "the catalog is off")
        return self._paged(request, {}, "repositories", sorted(self._registry.repositories))

    def _paged(
        self, request: web.BaseRequest, members: dict[str, object], key: str, listed: list[str]
    ) -> Reply:
        """One page of a list, from ``last`` on, at most ``n`` long."""
        traits = self._registry.traits.lists
        query = parse_qs(request.rel_url.raw_query_string)
        if traits.most and int(query.get("n", ["0"])[0]) > traits.most:
            return error(400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested")
        last = query.get("last", [""])[0]
        rest = [entry for entry in listed if entry > last]
        size = self._registry.page or len(rest)
        page = rest[:size]
        shown = page[::-1] if traits.unsorted else page
        if traits.twice:
            shown = shown + shown
        body = {**members, key: shown or (None if traits.null else []), **traits.more}
        answer = reply(200, json.dumps(body), Content_Type="application/json")
        if len(page) < len(rest):
            self._link(answer, request.rel_url.path, f"n={size}&{urlencode({'last': page[-1]})}")
        return answer

    def _link(self, answer: Reply, path: str, query: str) -> None:
        target = self._registry.traits.lists.link.format(
            path=path, leaf=path.rpartition("/")[2], query=query, **self._registry.names
        )
        answer.headers["Link"] = f'<{target}>; rel="next"'

    def referrers(self, request: web.BaseRequest, name: str, digest: str) -> Reply:
        """The manifests of a repository whose subject this is."""
        traits = self._registry.traits.lists
        if not traits.referrers:
            return error(404, "NOT_FOUND")
        repository = self._registry.repositories.get(name, Repository())
        query = parse_qs(request.rel_url.raw_query_string)
        wanted = query.get("artifactType", [""])[0]
        found = referrers_of(repository, digest)
        if wanted and traits.filters:
            found = [entry for entry in found if entry["artifactType"] == wanted]
        start = int(query.get("page", ["0"])[0])
        size = traits.referrers_page or max(len(found), 1)
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[start:][:size]}
        answer = reply(200, json.dumps(body), Content_Type=OCI_INDEX)
        if wanted and traits.filters:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        if start + size < len(found):
            again = {"artifactType": wanted} if wanted else {}
            self._link(answer, request.rel_url.path, urlencode({"page": start + size, **again}))
        return answer


def referrers_of(repository: Repository, digest: str) -> list[dict[str, object]]:
    """The descriptors of all that is attached to a digest, as the Referrers API shows them."""
    found: list[dict[str, object]] = []
    for target, (media_type, raw) in sorted(repository.manifests.items()):
        content = _members(raw)
        if ":" not in target or (content.get("subject") or {}).get("digest") != digest:
            continue
        artifact_type = content.get("artifactType") or content.get("config", {}).get("mediaType")
        found.append(
            {
                "mediaType": media_type,
                "digest": digest_of(raw),
                "size": len(raw),
                "artifactType": artifact_type or "",
                "annotations": content.get("annotations") or {},
            }
        )
    return found


def _members(raw: bytes) -> dict[str, object] | dict[str, dict[str, object]]:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def children_of(raw: bytes) -> Sequence[str]:
    """The digests that a manifest or index points to."""
    content = _members(raw)
    listed = [content.get("config"), *(content.get("layers") or ())]
    listed += content.get("manifests") or ()
    return [str(entry["digest"]) for entry in listed if isinstance(entry, dict)]
