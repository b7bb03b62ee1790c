"""A scripted registry that lists referrers: by the API, in pages, or not at all."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.registry import OCI_MANIFEST, FakeRegistry, digest_of

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"


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
        self.api, self.filters, self.entries = api, filters, entries

    @property
    def api(self) -> bool:
        return self.traits.lists.referrers

    @api.setter
    def api(self, has: bool) -> None:
        self.traits = self.traits.but("lists", referrers=has)

    @property
    def filters(self) -> bool:
        return self.traits.lists.filters

    @filters.setter
    def filters(self, applied: bool) -> None:
        self.traits = self.traits.but("lists", filters=applied)

    @property
    def entries(self) -> int:
        return self.traits.lists.referrers_page

    @entries.setter
    def entries(self, count: int) -> None:
        self.traits = self.traits.but("lists", referrers_page=count)

    def attach(self, repository: str, subject: bytes, kind: str = "text/sbom", **notes: str) -> str:
        """Put an artifact there that is attached to this manifest; its digest."""
        self.add_blob(repository, b"{}")
        return self.add_manifest(repository, "", make_artifact(subject, kind, **notes))
