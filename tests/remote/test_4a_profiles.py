"""The registries that people use (4a): pulls, lists and pushes where each is as it is."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest

from cache.content import Descriptor, Digest
from registryd.config import RegistryConfig
from registryd.oci.errors import (
    Denied,
    NameUnknown,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unsupported,
)
from registryd.oci.manifest import parse
from registryd.oci.reference import Reference
from registryd.remote.client import RegistryClient
from registryd.secrets import Login, Secret
from tests.fakes.bodies import Opener
from tests.fakes.profiles import (
    ACR,
    ARTIFACTORY,
    DOCKER_HUB,
    ECR,
    ECR_PUBLIC,
    GAR,
    GHCR,
    GITLAB,
    HARBOR,
    NEXUS,
    NVCR,
    PROFILES,
    QUAY,
    Profile,
    Scene,
    open_profile,
)
from tests.fakes.registry import FakeRegistry, Repository, digest_of, make_image
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import OpenRemotes

MIB = 2**20
LAYER = bytes(range(256)) * 400
CONFIG = b'{"os":"linux","architecture":"amd64"}'


@dataclass
class Visit:
    """A client at a registry of one profile, and the servers behind it."""

    scene: Scene
    client: RegistryClient
    image: Reference

    @property
    def registry(self) -> FakeRegistry:
        return self.scene.registry

    @property
    def tokens(self) -> FakeTokenServer:
        assert self.scene.tokens is not None
        return self.scene.tokens

    def held(self, repository: str = "team/new") -> Repository:
        return self.registry.repositories[repository]

    async def blob(self, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
        async with self.client.fetch_blob(self.image, digest, start, stop) as body:
            content = b"".join([piece async for piece in body])
            return content[start - body.start :][: None if stop is None else stop - start]

    async def push(self, target: Reference, *contents: bytes) -> None:
        for content in contents:
            await self.client.push_blob(target, blob(content), Opener(content))


Go = Callable[..., AbstractAsyncContextManager[Visit]]


def blob(content: bytes) -> Descriptor:
    return Descriptor.of("application/octet-stream", content)


def login_of(profile: Profile) -> Login:
    secret = Secret(profile.password)
    if profile.identity:
        return Login(profile.user, identity_token=secret, origin="a test")
    return Login(profile.user, secret, origin="a test")


@pytest.fixture
def go(open_remotes: OpenRemotes) -> Go:
    @asynccontextmanager
    async def go_(profile: Profile, *, known: bool = True) -> AsyncIterator[Visit]:
        async with open_profile(profile) as scene:
            scene.registry.add_image("team/app", "1.0", LAYER)
            config = RegistryConfig(endpoint=scene.registry.url)
            remotes = await open_remotes({profile.name: config})
            client = remotes.remote(profile.name, login_of(profile) if known else None)
            assert isinstance(client, RegistryClient)
            yield Visit(scene, client, Reference(profile.name, "team/app", "1.0"))

    return go_


every = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)


@every
@pytest.mark.parametrize("known", [True, False])
async def test_pull(profile: Profile, known: bool, go: Go) -> None:
    """A tag, its manifest and its blobs, whole and in stretches, with a login and without."""
    async with go(profile, known=known) as visit:
        if not known and not profile.anonymous:
            with pytest.raises(Unauthorized, match=f"registryctl login {profile.name}"):
                await visit.client.resolve(visit.image)
            return
        expected = Descriptor.of(*visit.registry.repositories["team/app"].manifests["1.0"])

        found = await visit.client.resolve(visit.image)
        assert (expected.digest, expected.size) == (found.digest, found.size)

        document = await visit.client.fetch_manifest(visit.image.with_digest(found.digest))
        assert [CONFIG, LAYER] == [await visit.blob(child.digest) for child in document.children]

        layer = document.children[-1].digest
        size = None if profile is ARTIFACTORY else len(LAYER)
        assert size == await visit.client.blob_size(visit.image, layer)
        assert LAYER[1000:5000] == await visit.blob(layer, 1000, 5000)


@every
async def test_tags(profile: Profile, go: Go) -> None:
    """All tags and nothing but, over pages."""
    tags = ["1.0", "1.1", "2.0", "latest", "v3"]
    async with go(profile) as visit:
        for tag in tags:
            visit.registry.add_image("team/app", tag, LAYER)
        visit.registry.page = 2
        if profile is ECR_PUBLIC:
            with pytest.raises(NameUnknown, match=r"cannot list the tags of public\.ecr\.aws/team"):
                await visit.client.tags(visit.image)
        else:
            assert tags == await visit.client.tags(visit.image)


@every
async def test_push(profile: Profile, go: Go) -> None:
    """A mount that fails, the blobs, the manifest by tag; each blob once and nothing left open."""
    manifest = make_image(LAYER, config=CONFIG)
    async with go(profile) as visit:
        visit.registry.repositories["team/new"] = Repository()
        new = Reference(profile.name, "team/new", "2.0")
        assert not await visit.client.mount_blob(new, Digest.of(LAYER), "nobody/nothing")

        await visit.push(new, LAYER, CONFIG)
        await visit.client.push_manifest(new, parse(manifest))

        assert {digest_of(LAYER): LAYER, digest_of(CONFIG): CONFIG} == visit.held().blobs
        assert ["2.0"] == visit.held().tags
        assert 2 == len(visit.registry.lines("^PUT /v2/team/new/blobs"))
        assert 0 == visit.registry.open_uploads
        for seen in visit.registry.requests:
            assert "Transfer-Encoding" not in seen.headers
            assert "Cookie" not in seen.headers


@every
async def test_missing_repository(profile: Profile, go: Go) -> None:
    """One line that says it is not there, or not for us; never a loop."""
    async with go(profile) as visit:
        nowhere = Reference(profile.name, "team/none", "1.0")
        kinds = (Denied,) if profile is ARTIFACTORY else (RegistryError,)
        with pytest.raises(kinds, match=r"cannot (find|resolve) ") as caught:
            await visit.client.resolve(nowhere)

        assert (3 if profile is ARTIFACTORY else 2) == caught.value.exit_code
        assert len(visit.registry.lines("team/none")) <= 4


# Docker Hub.


async def test_hub_hides_what_is_not_there(go: Go) -> None:
    """insufficient_scope to a fresh token: not found, or no access."""
    async with go(DOCKER_HUB, known=False) as visit:
        with pytest.raises(NameUnknown, match="not found or no access"):
            await visit.client.resolve(Reference.parse("nobody/nothing"))


async def test_hub_official_images(go: Go) -> None:
    """A name of one component is below library/."""
    async with go(DOCKER_HUB, known=False) as visit:
        visit.registry.add_image("library/alpine", "latest", LAYER)
        await visit.client.resolve(Reference.parse("alpine"))

        assert {"repository:library/alpine:pull"} == set(sum(visit.tokens.scopes, ()))


async def test_hub_counts_gets(go: Go) -> None:
    """Resolving costs no pull; one too many is RateLimited, and asked for no more."""
    async with go(DOCKER_HUB, known=False) as visit:
        visit.registry.traits = visit.registry.traits.but("manifests", pulls=1)
        for _ in range(3):
            await visit.client.resolve(visit.image)
        await visit.client.fetch_manifest(visit.image)
        with pytest.raises(RateLimited) as caught:
            await visit.client.fetch_manifest(visit.image)

        assert 4 == caught.value.exit_code


# GHCR.


async def test_ghcr_stale_token(go: Go) -> None:
    """403 to a token that was good before is met with a new one."""
    async with go(GHCR, known=False) as visit:
        await visit.client.resolve(visit.image)
        visit.tokens.revoke()
        await visit.client.resolve(visit.image)

        assert {"anonymous": 2} == visit.tokens.counts


@pytest.mark.parametrize(
    ("profile", "most", "first"), [(GHCR, 4 * MIB, 4 * MIB), (ECR, 16 * MIB, 16 * MIB)]
)
async def test_chunks_of_the_size_that_is_taken(
    profile: Profile, most: int, first: int, go: Go
) -> None:
    """Where a proxy refuses the whole: 4 MiB at most at GHCR, 5 MiB at least at ECR."""
    content = bytes(most + 6 * MIB)
    async with go(profile) as visit:
        visit.registry.repositories["team/new"] = Repository()
        visit.registry.answer("^PUT", 413)
        await visit.push(Reference(profile.name, "team/new"), content)

        assert content == visit.held().blobs[digest_of(content)]
        sent = visit.registry.asked("^PATCH")
        assert f"0-{first - 1}" == sent[0].headers["Content-Range"]


# ECR.


async def test_ecr_repositories_are_made_before(go: Go) -> None:
    """A push to a repository that is not there is told as such; exit code 2."""
    async with go(ECR) as visit:
        with pytest.raises(NameUnknown, match="cannot push blob"):
            await visit.push(Reference(ECR.name, "team/none"), LAYER)


async def test_ecr_manifest_without_a_type_of_its_own(go: Go) -> None:
    """What ECR calls bad JSON is a manifest without mediaType: the line has its words."""
    async with go(ECR) as visit:
        raw = b'{"schemaVersion":2,"manifests":[]}'
        with pytest.raises(Unsupported, match="Invalid JSON syntax"):
            await visit.client.push_manifest(visit.image, parse(raw))


async def test_ecr_public_expired_token(go: Go) -> None:
    """400 without a challenge, and words of expiry, mean a new token."""
    async with go(ECR_PUBLIC, known=False) as visit:
        await visit.client.resolve(visit.image)
        visit.tokens.revoke()
        await visit.client.fetch_manifest(visit.image)

        assert {"anonymous": 2} == visit.tokens.counts


# GCR and GAR.


async def test_gar_mount_from_another_project(go: Go) -> None:
    """A token for two projects is refused: the blob is uploaded."""
    async with go(GAR) as visit:
        visit.registry.add_blob("base/app", LAYER)
        new = Reference(GAR.name, "team/new")
        assert not await visit.client.mount_blob(new, Digest.of(LAYER), "base/app")

        await visit.push(new, LAYER)
        assert [digest_of(LAYER)] == list(visit.held().blobs)


async def test_gar_is_never_sent_chunks(go: Go) -> None:
    """Whatever goes wrong with the whole, no PATCH is tried."""
    async with go(GAR) as visit:
        visit.registry.answer("^PUT", 413, times=None)
        with pytest.raises(RegistryError):
            await visit.push(Reference(GAR.name, "team/new"), LAYER)

        assert [] == visit.registry.lines("^PATCH")


# ACR.


async def test_acr_large_blob(go: Go) -> None:
    """413 to the whole: chunks, whose Content-Range has no unit; the token by POST."""
    content = bytes(9 * MIB)
    async with go(ACR) as visit:
        await visit.push(Reference(ACR.name, "team/new"), content)

        assert content == visit.held().blobs[digest_of(content)]
        sent = [seen.headers["Content-Range"] for seen in visit.registry.asked("^PATCH")]
        assert [f"0-{9 * MIB - 1}"] == sent
        assert {"POST"} == {seen.method for seen in visit.tokens.requests}


# Quay.


async def test_quay_robots_and_scopes(go: Go) -> None:
    """A robot's + goes through, schema 1 is not what comes, and delete is never asked for."""
    async with go(QUAY) as visit:
        await visit.client.fetch_manifest(visit.image)
        visit.registry.answer("^PUT", 400)
        with pytest.raises(RegistryError):
            await visit.push(visit.image, LAYER)
        sent = visit.tokens.requests[0]

        user = base64.b64decode(sent.headers["Authorization"].split()[1]).decode()
        assert "org+robot:secret-word" == user
        assert "account=org%2Brobot" in sent.path
        assert not any("delete" in scope for asked in visit.tokens.scopes for scope in asked)
        assert 0 == visit.registry.open_uploads


# Harbor.


async def test_harbor_ping(go: Go) -> None:
    """A Basic challenge to a token on the ping is met by the password; all else goes by token."""
    async with go(HARBOR) as visit:
        await visit.client.ping()
        await visit.client.resolve(visit.image)
        sent = [
            seen.headers.get("Authorization", "-").split()[0] for seen in visit.registry.requests
        ]

        assert ["-", "Bearer", "Basic"] == sent[:3]
        assert "Bearer" == sent[-1]


# GitLab.


async def test_gitlab_tag_that_is_the_manifest(go: Go) -> None:
    """sha256-HEX gives the manifest itself, which is no list of referrers."""
    async with go(GITLAB) as visit:
        digest = visit.registry.repositories["team/app"].manifests["1.0"][1]
        found = await visit.client.referrers(visit.image, Digest.of(digest))

        assert () == found.entries
        assert visit.registry.lines("manifests/sha256-")


# NVCR.


async def test_nvcr_realm_moves(go: Go) -> None:
    """The newest challenge names the token server; the user is $oauthtoken to the letter."""
    async with go(NVCR) as visit:
        await visit.client.resolve(visit.image)
        visit.tokens.revoke()
        await visit.client.fetch_manifest(visit.image)
        paths = [seen.path.partition("?")[0] for seen in visit.tokens.requests]
        header = visit.tokens.requests[0].headers["Authorization"]

        assert ["/proxy_auth", "/token"] == paths
        assert b"$oauthtoken:secret-word" == base64.b64decode(header.split()[1])
        assert "service=" not in visit.tokens.requests[0].path
        assert [("repository:team/app:pull",)] * 2 == visit.tokens.scopes


async def test_nexus_takes_children_first(go: Go) -> None:
    """A manifest before its blobs is refused in words that name what is missing."""
    async with go(NEXUS) as visit:
        visit.registry.repositories["team/new"] = Repository()
        new = Reference(NEXUS.name, "team/new", "1")
        with pytest.raises(RegistryError, match=digest_of(CONFIG)) as caught:
            await visit.client.push_manifest(new, parse(make_image(LAYER, config=CONFIG)))

        assert "MANIFEST_BLOB_UNKNOWN" in str(caught.value)
