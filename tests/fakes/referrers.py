"""A scripted registry that lists referrers: by the API, in pages, or not at all."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from typing_extensions import override

from tests.fakes.http import Reply, reply
from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, Repository, digest_of, error

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

_REFERRERS = re.compile(r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]+)")


def make_artifact(subject: bytes, kind: str = "text/sbom", **annotations: str) -> bytes:
    """The manifest of an artifact that is attached to this manifest."""
    empty = {"mediaType": OCI_EMPTY, "digest": digest_of(b"{}"), "size": 2}
    members: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [empty],
        "subject": point(subject),
    }
    return json.dumps(members | ({"annotations": annotations} if annotations else {})).encode()


def point(raw: bytes) -> dict[str, object]:
    """The descriptor of a manifest, as it stands in another one."""
    members = json.loads(raw)
    return {"mediaType": members["mediaType"], "digest": digest_of(raw), "size": len(raw)}


class ReferrersRegistry(FakeRegistry):
    """The registry. ``api`` says whether it has the referrers API, ``entries`` go in a page.

    ``filters``: it applies the filter and says so.
    """

    def __init__(self, *, api: bool = True, filters: bool = True, entries: int = 0) -> None:
        super().__init__()
        self.api = api
        self.filters = filters
        self.entries = entries

    def attach(self, repository: str, subject: bytes, kind: str = "text/sbom", **notes: str) -> str:
        """Put an artifact there that is attached to this manifest; its digest."""
        self.add_blob(repository, b"{}")
        return self.add_manifest(repository, "", make_artifact(subject, kind, **notes))

    def referrers(self, repository: str, subject: str) -> list[dict[str, Any]]:
        """The entries of the list, by digest."""
        found = {}
        for _, raw in self.repositories.get(repository, Repository()).manifests.values():
            members = json.loads(raw)
            if members.get("subject", {}).get("digest") == subject:
                kind = members.get("artifactType") or members.get("config", {}).get("mediaType")
                entry = {**point(raw), "artifactType": kind}
                if "annotations" in members:
                    entry["annotations"] = members["annotations"]
                found[entry["digest"]] = entry
        return [found[digest] for digest in sorted(found)]

    @override
    async def respond(self, request: web.BaseRequest) -> Reply:
        match = _REFERRERS.fullmatch(request.rel_url.path)
        if match is None:
            return await super().respond(request)
        if not self.api:
            return error(404, "NOT_FOUND", "no such page")
        query = parse_qs(request.rel_url.raw_query_string)
        wanted = query.get("artifactType", [""])[0]
        entries = self.referrers(match["name"], match["digest"])
        if self.filters and wanted:
            entries = [entry for entry in entries if entry["artifactType"] == wanted]
        start = int(query.get("from", ["0"])[0])
        stop = start + (self.entries or len(entries))
        members = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries[start:stop]}
        answer = reply(200, json.dumps(members), Content_Type=OCI_INDEX)
        if self.filters and wanted:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        if stop < len(entries):
            rest = f"from={stop}" + (f"&artifactType={wanted}" if wanted else "")
            answer.headers["Link"] = f'<{request.rel_url.path}?{rest}>; rel="next"'
        return answer

    @override
    async def _manifest(self, request: web.BaseRequest, name: str, target: str) -> Reply:
        answer = await super()._manifest(request, name, target)
        if request.method == "PUT" and answer.status == 201 and self.api:
            digest = answer.headers["Docker-Content-Digest"]
            raw = self.repositories[name].manifests[digest][1]
            subject = json.loads(raw).get("subject")
            if subject:
                answer.headers["OCI-Subject"] = subject["digest"]
        return answer
