"""Manifests and indexes: what is read, what is refused, and which entry a platform gets."""

from typing import Any

import pytest

from cache.content import Descriptor, Digest
from cache.errors import DigestMismatch
from registryd.oci.errors import ManifestInvalid
from registryd.oci.manifest import MANIFEST_LIMIT, Index, IndexEntry, Manifest, parse
from registryd.oci.media_types import (
    DOCKER_CONFIG,
    DOCKER_FOREIGN_GZIP,
    DOCKER_LAYER_GZIP,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_FOREIGN_GZIP,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
)
from registryd.oci.platform import Platform
from tests.oci.documents import dump, entry, image, index, platform_entry, value


def test_a_manifest() -> None:
    """Config, layers and what is to be held; the bytes stay as they were."""
    raw = dump(image(annotations={"a": "b"}, unknown={"x": [1]}))
    document = parse(raw)

    assert isinstance(document, Manifest)
    assert raw == document.raw
    assert Descriptor.of(OCI_MANIFEST, raw) == document.descriptor
    assert value("config", OCI_CONFIG) == document.config
    assert (value("one"), value("two")) == document.layers
    assert (document.config, *document.layers) == document.children
    assert dict(document.annotations) == {"a": "b"}
    assert (document.artifact_type, document.subject) == ("", None)


def test_a_docker_manifest() -> None:
    """Docker's schema 2 is read the same way and keeps its type."""
    raw = dump(
        image(
            mediaType=DOCKER_MANIFEST,
            config=entry("config", DOCKER_CONFIG),
            layers=[entry("one", DOCKER_LAYER_GZIP)],
        )
    )

    assert parse(raw, DOCKER_MANIFEST).media_type == DOCKER_MANIFEST


def test_an_index() -> None:
    """Entries with platform, annotations and artifact type; nested indexes and artifacts too."""
    raw = dump(
        index(
            platform_entry("amd", "linux/amd64", annotations={"k": "v"}),
            entry("nested", OCI_INDEX),
            entry("artifact", OCI_MANIFEST, artifactType="application/x.sbom"),
            annotations={"a": "b"},
        )
    )
    document = parse(raw)
    expected = (
        IndexEntry(value("amd", OCI_MANIFEST), Platform("linux", "amd64"), {"k": "v"}),
        IndexEntry(value("nested", OCI_INDEX)),
        IndexEntry(value("artifact", OCI_MANIFEST), artifact_type="application/x.sbom"),
    )

    assert isinstance(document, Index)
    assert expected == document.entries
    assert tuple(each.descriptor for each in expected) == document.children
    assert dict(document.annotations) == {"a": "b"}


def test_an_artifact() -> None:
    """An artifact has a type of its own, an empty config that may be its layer too, a subject."""
    empty = entry("{}", OCI_EMPTY)
    raw = dump(
        image(
            artifactType="application/x.signature",
            config=empty,
            layers=[empty],
            subject=entry("subject", OCI_MANIFEST),
        )
    )
    document = parse(raw)

    assert "application/x.signature" == document.artifact_type == document.referrer_type
    assert value("subject", OCI_MANIFEST) == document.subject
    assert (value("{}", OCI_EMPTY),) == document.children


def test_referrer_type() -> None:
    """Referrers are listed by artifact type, else by the type of their config; indexes by none."""
    with_type = parse(dump(index(artifactType="application/x.y")))

    assert parse(dump(image())).referrer_type == OCI_CONFIG
    assert parse(dump(index())).referrer_type == ""
    assert with_type.referrer_type == "application/x.y"


def test_children_are_there_once() -> None:
    """A layer used twice is listed twice and held once, whatever it is called."""
    layers = [entry("one"), entry("two"), entry("one"), entry("one", OCTET_STREAM)]
    document = parse(dump(image(layers=layers)))

    assert isinstance(document, Manifest)
    assert len(document.layers) == 4
    assert (document.config, value("one"), value("two")) == document.children


@pytest.mark.parametrize("kind", [DOCKER_FOREIGN_GZIP, OCI_FOREIGN_GZIP])
def test_foreign_layers(kind: str) -> None:
    """A foreign layer is a layer; it is held only when it does not say where else it is."""
    away = entry("away", kind, urls=["https://example.com/layer"])
    document = parse(dump(image(layers=[away, entry("here", kind), entry("none", kind, urls=[])])))

    assert isinstance(document, Manifest)
    assert len(document.layers) == 3
    assert (document.config, value("here", kind), value("none", kind)) == document.children


def test_urls_do_not_make_a_layer_foreign() -> None:
    """An ordinary layer with urls is held like any other."""
    document = parse(dump(image(layers=[entry("one", urls=["https://example.com/"])])))

    assert value("one") in document.children


@pytest.mark.parametrize("layers", [None, []])
def test_no_layers(layers: list[object] | None) -> None:
    """A manifest without layers is whole; so is an empty index, also where null says so."""
    document = parse(dump(image(layers=layers)))
    raw = dump({**index(), "manifests": None})

    assert (value("config", OCI_CONFIG),) == document.children
    assert parse(raw).children == ()


def test_the_digest_is_of_the_algorithm_asked() -> None:
    """What was asked by sha512 is known by sha512."""
    raw = dump(image())

    assert Digest.of(raw) == parse(raw).digest
    assert Digest.of(raw, "sha512") == parse(raw, None, Digest.of(raw, "sha512")).digest


def test_other_bytes_than_asked() -> None:
    """Bytes are proven before they are looked at."""
    with pytest.raises(DigestMismatch):
        parse(b"not even JSON", None, Digest.of(b"x"))


def test_documents_are_equal_by_their_bytes() -> None:
    """Two readings of the same bytes are one value."""
    raw = dump(image())

    assert parse(raw) == parse(raw)
    assert len({parse(raw), parse(raw)}) == 1
    assert parse(raw) != parse(raw + b" ")


def test_annotations_cannot_be_changed() -> None:
    """A document is a value, down to its annotations."""
    document = parse(dump(image(annotations={"a": "b"})))

    with pytest.raises(TypeError):
        document.annotations["a"] = "c"  # type: ignore[index]


GENERIC = [None, "", "application/json", "text/plain; charset=utf-8", OCTET_STREAM, "text/html"]


@pytest.mark.parametrize("content_type", [*GENERIC, OCI_MANIFEST, f"{OCI_MANIFEST}; charset=utf-8"])
def test_the_body_decides(content_type: str | None) -> None:
    """With a mediaType in the body, a generic, missing or agreeing header changes nothing."""
    assert parse(dump(image()), content_type).media_type == OCI_MANIFEST


@pytest.mark.parametrize(
    "content_type", [OCI_INDEX, DOCKER_MANIFEST, DOCKER_SCHEMA1_SIGNED, OCI_CONFIG]
)
def test_a_contradiction_is_refused(content_type: str) -> None:
    """A specific header and a body that says otherwise: two readers could see two things."""
    with pytest.raises(ManifestInvalid, match="but says of itself"):
        parse(dump(image()), content_type)


@pytest.mark.parametrize(
    ("members", "content_type", "expected"),
    [
        (image(mediaType=None), None, OCI_MANIFEST),
        (image(mediaType=None), "text/plain", OCI_MANIFEST),
        (image(mediaType=None), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (image(mediaType=""), OCI_MANIFEST.upper(), OCI_MANIFEST),
        (image(mediaType=None, config=entry("c", DOCKER_CONFIG)), None, DOCKER_MANIFEST),
        (image(mediaType=None, config=entry("c", DOCKER_CONFIG)), OCI_MANIFEST, OCI_MANIFEST),
        (index(mediaType=None), None, OCI_INDEX),
        (index(mediaType=None), DOCKER_LIST, DOCKER_LIST),
        (index(entry("x", OCI_MANIFEST), mediaType=None), None, OCI_INDEX),
        (index(entry("x", DOCKER_MANIFEST), mediaType=None), None, DOCKER_LIST),
    ],
)
def test_a_body_without_type(
    members: dict[str, Any], content_type: str | None, expected: str
) -> None:
    """The header decides where it is specific, else the shape."""
    assert expected == parse(dump(members), content_type).media_type


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "neither config and layers nor manifests"),
        ({"schemaVersion": 2, "layers": []}, "neither config and layers nor manifests"),
        (image(schemaVersion=None), "schemaVersion must be 2"),
        (image(schemaVersion=3), "schemaVersion must be 2"),
        (image(schemaVersion="2"), "schemaVersion must be 2"),
        (image(schemaVersion=2.0), "schemaVersion must be 2"),
        (image(mediaType="application/json"), "not the type of a manifest or an index"),
        (image(mediaType=OCI_CONFIG), "not the type of a manifest or an index"),
        (image(mediaType="x"), "mediaType is not a media type"),
        (image(mediaType=5), "mediaType must be a text"),
        (image(manifests=[]), "it is a manifest, but has the member manifests"),
        (image(fsLayers=[]), "it is a manifest, but has the member fsLayers"),
        (image(config=None), "config must be an object"),
        (image(config="x"), "config must be an object"),
        (image(layers={}), "layers must be a list"),
        (image(layers=["x"]), r"layers\[0\] must be an object"),
        (image(layers=[entry("a"), entry("b", size=-1)]), r"layers\[1\]\.size must be"),
        (image(layers=[entry("a"), entry("a", size=7)]), "has two sizes, 1 and 7"),
        (image(layers=[entry("a")] * 10_001), "10001 entries"),
        (image(annotations={"a": 5}), r"annotations\['a'\] must be a text"),
        (image(annotations=[]), "annotations must be an object"),
        (image(subject=[]), "subject must be an object"),
        (image(artifactType="x"), "artifactType is not a media type"),
        (image(mediaType=OCI_INDEX), "it is an index, but has the member config"),
        (index(config={}), "it is an index, but has the member config"),
        (index(layers=[]), "it is an index, but has the member layers"),
        (index(fsLayers=[]), "it is an index, but has the member fsLayers"),
        (index(manifests=None), "manifests is missing"),
        (index({"platform": {}}), r"manifests\[0\]\.mediaType is missing"),
        (index(entry("x", platform="linux")), r"manifests\[0\]\.platform must be an object"),
        (index(entry("x", platform={"os": 1})), r"manifests\[0\]\.platform\.os must be a text"),
        (index(entry("x", platform={"os": "a b"})), "'a b' cannot be part of a platform"),
        (index(entry("x", annotations=5)), r"manifests\[0\]\.annotations must be an object"),
    ],
)
def test_malformed_documents(members: dict[str, Any], reason: str) -> None:
    """Each fault is told with the document's digest and the member's path."""
    raw = dump(members)

    with pytest.raises(ManifestInvalid, match=reason) as caught:
        parse(raw)
    assert str(caught.value).startswith(f"manifest {Digest.of(raw)} is not usable: ")


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'{"a":1,"a":1}', b"\xff"])
def test_what_is_no_document(raw: bytes) -> None:
    """Bytes that are no JSON object are no manifest."""
    with pytest.raises(ManifestInvalid):
        parse(raw, OCI_MANIFEST)


@pytest.mark.parametrize(
    ("members", "content_type"),
    [
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, None),
        ({"schemaVersion": 1}, "application/json"),
        ({"schemaVersion": 1}, DOCKER_SCHEMA1_SIGNED),
        ({}, DOCKER_SCHEMA1),
        ({"mediaType": DOCKER_SCHEMA1_SIGNED}, None),
    ],
)
def test_schema_1(members: dict[str, Any], content_type: str | None) -> None:
    """Schema 1 is refused with what to do about it."""
    with pytest.raises(ManifestInvalid, match="push the image again with a current client"):
        parse(dump(members), content_type)


def test_the_limit_is_met() -> None:
    """A manifest of exactly the limit is read; one byte more is refused, whatever it is."""
    raw = dump(image())
    full = raw + b" " * (MANIFEST_LIMIT - len(raw))

    assert parse(full).descriptor.size == MANIFEST_LIMIT
    with pytest.raises(ManifestInvalid, match=f"has {MANIFEST_LIMIT + 1} bytes"):
        parse(full + b" ")
    with pytest.raises(ManifestInvalid, match=f"manifest {Digest.of(raw)} has"):
        parse(full + b" ", None, Digest.of(raw))
