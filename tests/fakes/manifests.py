"""The manifests of a scripted registry: given, taken, removed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from aiohttp import web

from tests.fakes.http import Reply, error, reply
from tests.fakes.listings import children_of
from tests.fakes.ranges import read_all
from tests.fakes.values import Repository, digest_of

if TYPE_CHECKING:
    from tests.fakes.registry import FakeRegistry

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


class Manifests:
    """What stands below ``/v2/NAME/manifests/``."""

    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry
        #: GETs so far, where they are counted.
        self.pulls = 0

    async def respond(self, request: web.BaseRequest, name: str, target: str) -> Reply:
        if request.method == "PUT":
            return self._put(request, name, target, await read_all(request))
        if request.method == "DELETE":
            return self._delete(name, target)
        return self._counted(request, self._get(request, name, target))

    def _get(self, request: web.BaseRequest, name: str, target: str) -> Reply:
        traits = self._registry.traits.manifests
        if request.method == "HEAD" and traits.head != 200:
            return reply(traits.head)
        repository = self._registry.repositories.get(name, Repository())
        fake = re.fullmatch(r"(sha256)-([0-9a-f]{64})", target)
        if fake and traits.digest_tags and target not in repository.manifests:
            target = f"{fake[1]}:{fake[2]}"
        if target not in repository.manifests:
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, raw = repository.manifests[target]
        if traits.schema1 and "vnd.oci.image" not in request.headers.get("Accept", ""):
            old = json.dumps({"schemaVersion": 1, "name": name, "fsLayers": []})
            return reply(200, old, Content_Type=SCHEMA1)
        answer = reply(200, raw, Content_Type=traits.content_type or media_type)
        if traits.says_digest:
            answer.headers["Docker-Content-Digest"] = digest_of(raw, target.partition(":")[0])
        if request.method == "HEAD" and not traits.head_says_length:
            answer.length = -1
        return answer

    def _counted(self, request: web.BaseRequest, answer: Reply) -> Reply:
        """An answer with what is left of the pulls; a GET costs one."""
        allowed = self._registry.traits.manifests.pulls
        if allowed is None:
            return answer
        if request.method == "GET":
            self.pulls += 1
        if self.pulls > allowed:
            words = "You have reached your pull rate limit."
            answer = error(429, "TOOMANYREQUESTS", words, Retry_After="60")
        answer.headers["ratelimit-limit"] = f"{allowed};w=21600"
        answer.headers["ratelimit-remaining"] = f"{max(allowed - self.pulls, 0)};w=21600"
        answer.headers["docker-ratelimit-source"] = "127.0.0.1"
        return answer

    def _put(self, request: web.BaseRequest, name: str, target: str, raw: bytes) -> Reply:
        traits, registry = self._registry.traits.manifests, self._registry
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            return error(400, "MANIFEST_INVALID")
        media_type = request.headers["Content-Type"]
        if traits.strict_type and content.get("mediaType") != media_type:
            said = "Invalid parameter at 'ImageManifest': Invalid JSON syntax"
            return error(405, "UNSUPPORTED", said)
        subject = content.get("subject")
        if subject is not None and not traits.takes_subject:
            return error(400, "MANIFEST_INVALID", "unknown field subject")
        held = registry.repositories.get(name, Repository())
        missing = [d for d in children_of(raw) if d not in held.blobs and d not in held.manifests]
        if traits.wants_children and missing:
            return error(400, "MANIFEST_BLOB_UNKNOWN", f"unknown: {missing[0]}")
        tags = [] if ":" in target else [target]
        added = parse_qs(request.rel_url.raw_query_string).get("tag", [])
        if traits.tags_by_query:
            tags += added
        digest = registry.add_manifest(name, "", raw, media_type)
        for tag in tags:
            registry.add_manifest(name, tag, raw, media_type)
        if ":" in target:
            # By another algorithm, perhaps.
            registry.repositories[name].manifests[target] = (media_type, raw)
        answer = reply(
            traits.put, Docker_Content_Digest=digest, Location=f"/v2/{name}/manifests/{digest}"
        )
        if subject is not None and registry.traits.lists.referrers:
            answer.headers["OCI-Subject"] = subject["digest"]
        if traits.tags_by_query:
            for tag in added:
                answer.headers.add("OCI-Tag", tag)
        return answer

    def _delete(self, name: str, target: str) -> Reply:
        if self._registry.traits.manifests.delete == 405:
            return error(405, "UNSUPPORTED", "deletion is disabled")
        manifests = self._registry.repositories.get(name, Repository()).manifests
        if target not in manifests:
            return error(404, "MANIFEST_UNKNOWN")
        if ":" in target:
            gone = [tag for tag, held in manifests.items() if held == manifests[target]]
        else:
            gone = [target]
        for each in gone:
            del manifests[each]
        return reply(self._registry.traits.manifests.delete)
