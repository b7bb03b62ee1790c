"""A stripped index: what is kept stands as it stood, and everything else of it stays."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from registryd.oci.manifest import Index, parse
from registryd.oci.media_types import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from registryd.oci.stripping import BELONGS_TO, stripped, with_belongings


def entry(number: int, **more: object) -> dict[str, object]:
    """An entry of an index."""
    digest = str(Digest.of(bytes([number])))
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": number + 1, **more}


def index(entries: list[dict[str, object]], **more: object) -> Index:
    """An index of these."""
    members: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    made = parse(json.dumps({**members, **more}, indent=3).encode())
    assert isinstance(made, Index)
    return made


@given(
    st.sets(st.integers(0, 20), min_size=1),
    st.sets(st.integers(0, 20)),
    st.sampled_from([OCI_INDEX, DOCKER_LIST]),
    st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3),
)
def test_members_and_order_stay(
    there: set[int], wanted: set[int], media_type: str, annotations: dict[str, str]
) -> None:
    """Any index, any choice: only the list is shorter; all kept means the same bytes."""
    entries = [
        entry(n, platform={"os": "linux", "architecture": f"a{n}", "os.version": "é"})
        for n in there
    ]
    whole = index(entries, mediaType=media_type, annotations=annotations, odd=[1, None])
    kept = {Digest.of(bytes([n])) for n in wanted}
    made = stripped(whole, kept)
    left = [each for each in entries if Digest.parse(str(each["digest"])) in kept]

    assert {**json.loads(whole.raw), "manifests": left} == json.loads(made.raw)
    assert (there <= wanted) == (made is whole)


def test_provenance_belongs_to_its_image() -> None:
    """What says that it is about a kept image is kept, about another it is not."""
    about = [{BELONGS_TO: str(Digest.of(bytes([n])))} for n in (0, 1)]
    whole = index(
        [entry(0), entry(1), entry(2, annotations=about[0]), entry(3, annotations=about[1])]
    )

    assert {Digest.of(b"\0"), Digest.of(b"\2")} == with_belongings(whole, [Digest.of(b"\0")])
