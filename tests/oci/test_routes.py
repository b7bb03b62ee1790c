"""The paths of the distribution specification, read and written, and whose repository they mean."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import DigestInvalid, Fault
from registryd.oci.errors import (
    ManifestUnknown,
    NameUnknown,
    ReferenceInvalid,
    RegistryError,
    Unsupported,
    UploadUnknown,
)
from registryd.oci.reference import Reference
from registryd.oci.routes import (
    BlobRoute,
    Catalog,
    ManifestRoute,
    Ping,
    ReferrersRoute,
    Route,
    TagsRoute,
    UploadRoute,
    UploadsRoute,
    locate,
    parse,
    refer,
)

DIGEST = Digest.of(b"content")
SHA512 = Digest.of(b"content", "sha512")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2/", Ping()),
        ("/v2", Ping()),
        ("/v2/_catalog", Catalog()),
        ("/v2/app/manifests/v1", ManifestRoute("app", "v1")),
        (f"/v2/app/manifests/{DIGEST}", ManifestRoute("app", str(DIGEST))),
        (f"/v2/org/app/blobs/{SHA512}", BlobRoute("org/app", SHA512)),
        ("/v2/org/app/tags/list", TagsRoute("org/app")),
        (f"/v2/a/b/referrers/{DIGEST}", ReferrersRoute("a/b", DIGEST)),
        ("/v2/app/blobs/uploads/", UploadsRoute("app")),
        ("/v2/app/blobs/uploads", UploadsRoute("app")),
        ("/v2/app/blobs/uploads/3f-a_Z", UploadRoute("app", "3f-a_Z")),
        ("/v2/manifests/manifests/manifests", ManifestRoute("manifests", "manifests")),
        ("/v2/a/manifests/blobs/manifests/list", ManifestRoute("a/manifests/blobs", "list")),
        ("/v2/a/blobs/uploads/manifests/x", ManifestRoute("a/blobs/uploads", "x")),
        (f"/v2/a/blobs/uploads/blobs/{DIGEST}", BlobRoute("a/blobs/uploads", DIGEST)),
        ("/v2/a/blobs/uploads/blobs/uploads/", UploadsRoute("a/blobs/uploads")),
        ("/v2/a/blobs/uploads/list", UploadRoute("a", "list")),
        ("/v2/a/manifests/tags/list", TagsRoute("a/manifests")),
        ("/v2/tags/tags/list", TagsRoute("tags")),
        ("/v2/localhost/tags/list", TagsRoute("localhost")),
        ("/v2/docker.io/library/x/manifests/1", ManifestRoute("docker.io/library/x", "1")),
        ("/v2/127.0.0.1:5101/x/manifests/1", ManifestRoute("127.0.0.1:5101/x", "1")),
        ("/v2/[::1]:5101/x/manifests/1", ManifestRoute("[::1]:5101/x", "1")),
        ("/v2/a__b.c/x/manifests/1", ManifestRoute("a__b.c/x", "1")),
    ],
)
def test_paths(path: str, expected: Route) -> None:
    """Every endpoint is understood, whatever the repository's components are called."""
    assert expected == parse(path)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", NameUnknown),
        ("/", NameUnknown),
        ("/v1/_ping", NameUnknown),
        ("/v2x", NameUnknown),
        ("/v2/app", NameUnknown),
        ("/v2/app/tags", NameUnknown),
        ("/v2/app/other/x", NameUnknown),
        ("/v2/app/uploads/x", NameUnknown),
        ("/v2/uploads/x", NameUnknown),
        ("/v2/_catalog/", Unsupported),
        ("/v2/_oci/ext/discover", Unsupported),
        ("/v2//manifests/x", ReferenceInvalid),
        ("/v2/manifests/x", ReferenceInvalid),
        ("/v2/tags/list", ReferenceInvalid),
        ("/v2/blobs/uploads/", ReferenceInvalid),
        ("/v2/App/manifests/x", ReferenceInvalid),
        ("/v2/Org/app/manifests/x", ReferenceInvalid),
        ("/v2/a/../b/manifests/x", ReferenceInvalid),
        ("/v2/a:b:c/x/manifests/x", ReferenceInvalid),
        ("/v2/app/manifests/", ManifestUnknown),
        ("/v2/app/manifests/.INVALID", ManifestUnknown),
        ("/v2/app/manifests/sha256:0", DigestInvalid),
        ("/v2/app/blobs/", DigestInvalid),
        ("/v2/app/blobs/latest", DigestInvalid),
        ("/v2/app/blobs/md5:0", DigestInvalid),
        ("/v2/app/referrers/latest", DigestInvalid),
        ("/v2/app/blobs/uploads/..", UploadUnknown),
        ("/v2/app/blobs/uploads/x\n", UploadUnknown),
        (f"/v2/app/blobs/uploads/{'x' * 201}", UploadUnknown),
    ],
)
def test_bad_paths(path: str, error: type[Fault]) -> None:
    """What cannot be asked is refused with the error that the specification names."""
    with pytest.raises(error) as caught:
        parse(path)

    assert error is type(caught.value)


def test_a_tag_that_cannot_exist_is_not_found() -> None:
    """The line names the repository and the tag."""
    with pytest.raises(ManifestUnknown, match="app: '-x' is not a tag"):
        parse("/v2/app/manifests/-x")


def test_the_digest_of_a_manifest_route() -> None:
    """A target is a digest or a tag."""
    assert ManifestRoute("app", str(DIGEST)).digest == DIGEST
    assert ManifestRoute("app", "v1").digest is None


@pytest.mark.parametrize(
    "make",
    [
        TagsRoute,
        UploadsRoute,
        lambda repository: BlobRoute(repository, DIGEST),
        lambda repository: ReferrersRoute(repository, DIGEST),
        lambda repository: ManifestRoute(repository, "v1"),
        lambda repository: UploadRoute(repository, "session"),
    ],
)
def test_an_invalid_route_cannot_be_made(make: Callable[[str], Route]) -> None:
    """A route's repository is checked when it is made."""
    with pytest.raises(ReferenceInvalid):
        make("App")


@pytest.mark.parametrize(
    "path", ["/x", "/v2/app", "/v2/_x", "/v2/app/manifests/-x", "/v2/app/blobs/uploads/.."]
)
def test_what_is_not_there_has_its_status(path: str) -> None:
    """The refusals that mean "not here" say so by their status."""
    with pytest.raises(RegistryError) as caught:
        parse(path)

    assert caught.value.status == 404


words = st.sampled_from(
    ["a", "b1", "manifests", "blobs", "uploads", "tags", "list", "referrers", "a.b", "localhost"]
)
repositories = st.lists(words, min_size=1, max_size=5).map("/".join)
tags = st.sampled_from(["v1", "list", "uploads", "blobs", "manifests", "_x"])
digests = st.sampled_from([DIGEST, SHA512])
sessions = st.sampled_from(["uploads", "list", "blobs", "manifests", "3f-a_Z"])
all_routes = st.one_of(
    st.just(Ping()),
    st.just(Catalog()),
    st.builds(ManifestRoute, repositories, tags | digests.map(str)),
    st.builds(BlobRoute, repositories, digests),
    st.builds(TagsRoute, repositories),
    st.builds(UploadsRoute, repositories),
    st.builds(UploadRoute, repositories, sessions),
    st.builds(ReferrersRoute, repositories, digests),
)


@given(all_routes)
def test_round_trip(route: Route) -> None:
    """Every route is read back from its path."""
    assert route == parse(route.path())


@given(st.lists(words | tags | st.sampled_from(["", "_x", "..", "A", str(DIGEST)]), max_size=7))
def test_any_path_is_a_route_or_refused(parts: list[str]) -> None:
    """No path raises anything but our own errors, and what is read means that path."""
    path = "/v2/" + "/".join(parts)
    try:
        route = parse(path)
    except Fault:
        return

    assert path.rstrip("/") == route.path().rstrip("/")


@pytest.mark.parametrize(
    ("repository", "ns", "default", "expected"),
    [
        ("library/alpine", None, "docker.io", ("docker.io", "library/alpine")),
        ("alpine", None, "docker.io", ("docker.io", "library/alpine")),
        ("alpine", "", "quay.io", ("quay.io", "alpine")),
        ("org/app", None, "localhost", ("localhost", "org/app")),
        ("docker.io/alpine", None, "quay.io", ("docker.io", "library/alpine")),
        ("ghcr.io/org/app", None, "docker.io", ("ghcr.io", "org/app")),
        ("127.0.0.1:5051/demo/app", None, "docker.io", ("127.0.0.1:5051", "demo/app")),
        ("localhost/x", None, "docker.io", ("localhost", "x")),
        ("localhost", None, "docker.io", ("docker.io", "library/localhost")),
        ("a.b", None, "docker.io", ("docker.io", "library/a.b")),
        ("org/app", "ghcr.io", "docker.io", ("ghcr.io", "org/app")),
        ("alpine", "registry-1.docker.io", "quay.io", ("docker.io", "library/alpine")),
        ("x/y", "127.0.0.1:5101", "docker.io", ("127.0.0.1:5101", "x/y")),
        ("ghcr.io/org/app", "ghcr.io", "docker.io", ("ghcr.io", "org/app")),
        ("docker.io/library/x", "registry-1.docker.io", "a.b", ("docker.io", "library/x")),
        ("quay.io/org/app", "ghcr.io", "docker.io", ("ghcr.io", "quay.io/org/app")),
        ("ghcr.io", "ghcr.io", "docker.io", ("ghcr.io", "ghcr.io")),
    ],
)
def test_locate(repository: str, ns: str | None, default: str, expected: tuple[str, str]) -> None:
    """First ``ns``, then the path's first component, then the listener's default."""
    assert expected == locate(repository, ns, default)


@pytest.mark.parametrize(
    ("repository", "ns"), [("x", "http://a.b"), ("x", "a"), ("a__b.c/x", None), ("x", "a.b/c")]
)
def test_locate_refuses_what_is_no_registry(repository: str, ns: str | None) -> None:
    """A free text never becomes a host to dial."""
    with pytest.raises(ReferenceInvalid, match="is not a registry"):
        locate(repository, ns, "docker.io")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("org/app", "1", None, "docker.io"), Reference("docker.io", "org/app", "1")),
        (("org/app", "1", None, "quay.io"), Reference("quay.io", "org/app", "1")),
        (("org/app", "1", "ghcr.io", "docker.io"), Reference("ghcr.io", "org/app", "1")),
        (("org/app", "2", None, "docker.io"), Reference("docker.io", "org/app", "2")),
        (("org/app", "", None, "docker.io"), Reference("docker.io", "org/app")),
        (
            ("a.b/app", str(DIGEST), None, "docker.io"),
            Reference("a.b", "app", None, DIGEST),
        ),
    ],
)
def test_refer(words: tuple[str, str, str | None, str], expected: Reference) -> None:
    """One path means another thing on another listener and for another ``ns``: also when kept."""
    assert expected == refer(*words)
    assert expected == refer(*words)


def test_what_is_refused_is_not_kept() -> None:
    """Only well-formed paths are remembered: a long text that is none takes no memory."""
    before = parse.cache_info().currsize, refer.cache_info().currsize
    with pytest.raises(Fault):
        parse("/v2/" + "x" * 9000 + "/manifests/1")
    with pytest.raises(ReferenceInvalid):
        refer("app", "1", "x" * 9000, "docker.io")

    assert before == (parse.cache_info().currsize, refer.cache_info().currsize)
