"""The registries that people use, as they behave towards a client: one description each.

Facts: the registries' traps, section 4a. A profile is opened as real servers on loopback: a
registry, a token server where it has one, and a CDN where its blobs are elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.fakes.cdn import FakeCdn
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.fakes.traits import (
    AuthTraits,
    BlobTraits,
    ListTraits,
    ManifestTraits,
    TokenTraits,
    Traits,
    UploadTraits,
)

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One registry: its name in references, its ways, and how it wants to be convinced."""

    name: str
    traits: Traits = field(default_factory=Traits)
    #: The ways of its token server; None: it wants Basic.
    tokens: TokenTraits | None = field(default_factory=TokenTraits)
    user: str = "ann"
    password: str = "secret-word"
    #: The login is an identity token, to be exchanged.
    identity: bool = False
    #: Whether nobody may pull, and whether anybody may push.
    anonymous: bool = True
    pushes: bool = True
    #: Whether its blobs are at a CDN, what that says to HEAD, and how often a URL is good there.
    cdn: bool = False
    cdn_head: int = 200
    cdn_uses: int | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """A profile that is listening."""

    profile: Profile
    registry: FakeRegistry
    tokens: FakeTokenServer | None
    cdn: FakeCdn | None


@asynccontextmanager
async def open_profile(profile: Profile) -> AsyncIterator[Scene]:
    """The servers of a profile, as long as the context lasts."""
    async with AsyncExitStack() as stack:
        users = {profile.user: profile.password}
        tokens, cdn = None, None
        if profile.tokens is not None:
            tokens = FakeTokenServer(users=users, anonymous=profile.anonymous)
            tokens.behave(profile.tokens)
            if profile.identity:
                tokens.refresh.add(profile.password)
            await stack.enter_async_context(tokens.serve())
        registry = FakeRegistry(users=None if tokens else users, tokens=tokens)
        registry.traits = profile.traits
        if profile.cdn:
            cdn = registry.cdn = FakeCdn()
            cdn.head, cdn.uses = profile.cdn_head, profile.cdn_uses
            await stack.enter_async_context(cdn.serve())
        await stack.enter_async_context(registry.serve())
        yield Scene(profile, registry, tokens, cdn)


DOCKER_HUB = Profile(
    name="docker.io",
    traits=Traits(
        auth=AuthTraits(service="registry.docker.io"),
        manifests=ManifestTraits(absent=401, pulls=100),
        uploads=UploadTraits(mount_absent=400),
        lists=ListTraits(catalog=False, unsorted=True, referrers=False),
    ),
    tokens=TokenTraits(
        post=404,
        members={"access_token": "", "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"},
    ),
    cdn=True,
)

GHCR = Profile(
    name="ghcr.io",
    traits=Traits(
        auth=AuthTraits(placeholder="repository:user/image:pull", stale=403, short=403),
        blobs=BlobTraits(redirect=302),
        uploads=UploadTraits(most=4 * MIB),
        lists=ListTraits(catalog=False, referrers=False),
    ),
    tokens=TokenTraits(anonymous_push=403, post=405),
    cdn=True,
    cdn_head=403,
    cdn_uses=1,
)

ECR = Profile(
    name="123456789012.dkr.ecr.eu-central-1.amazonaws.com",
    traits=Traits(
        manifests=ManifestTraits(strict_type=True),
        uploads=UploadTraits(
            least=5 * MIB, patched=201, reached="0-{first}", progress=404, creates=False
        ),
        lists=ListTraits(catalog=True, most=1000, referrers=False),
    ),
    tokens=None,
    user="AWS",
    anonymous=False,
    cdn=True,
    cdn_head=403,
)

ECR_PUBLIC = Profile(
    name="public.ecr.aws",
    traits=Traits(
        auth=AuthTraits(stale=400, stale_words="Your Authorization Token has expired."),
        manifests=ManifestTraits(strict_type=True),
        uploads=UploadTraits(least=5 * MIB, patched=201, creates=False),
        lists=ListTraits(tags=False, catalog=False, referrers=False),
    ),
    cdn=True,
)

GAR = Profile(
    name="europe-docker.pkg.dev",
    traits=Traits(
        auth=AuthTraits(challenges=False),
        uploads=UploadTraits(chunks=False, chunks_refused=400),
        lists=ListTraits(more={"child": [], "manifest": {"sha256:0": {"tag": ["x"]}}}),
    ),
    tokens=TokenTraits(post=404, one_project=True),
)

ACR = Profile(
    name="example.azurecr.io",
    traits=Traits(
        uploads=UploadTraits(chunked_coding=False, most_whole=8 * MIB),
    ),
    tokens=TokenTraits(
        password=False, member="access_token", members={"expires_in": None, "refresh_token": "r"}
    ),
    user="00000000-0000-0000-0000-000000000000",
    identity=True,
    anonymous=False,
    cdn=True,
    cdn_head=403,
)

QUAY = Profile(
    name="quay.io",
    traits=Traits(
        manifests=ManifestTraits(schema1=True),
        uploads=UploadTraits(location="{session}?_state=a%2Fb", mount_anonymous=400),
        lists=ListTraits(link="{leaf}?{query}"),
    ),
    tokens=TokenTraits(unknown_actions=frozenset({"delete"}), post=405),
    user="org+robot",
    cdn=True,
)

HARBOR = Profile(
    name="harbor.example.com",
    traits=Traits(
        auth=AuthTraits(ping_wants_basic=True),
        blobs=BlobTraits(ranges="ignored"),
        uploads=UploadTraits(mount_absent=401),
        lists=ListTraits(referrers_page=2),
        cookies=True,
    ),
    tokens=TokenTraits(post=405, members={"expires_in": 1800}),
)

GITLAB = Profile(
    name="registry.gitlab.com",
    traits=Traits(
        auth=AuthTraits(delete="delete"),
        manifests=ManifestTraits(digest_tags=True),
        lists=ListTraits(referrers=False, catalog=False),
    ),
    cdn=True,
)

ARTIFACTORY = Profile(
    name="example.jfrog.io",
    traits=Traits(
        manifests=ManifestTraits(absent=403, says_digest=False, head_says_length=False),
        blobs=BlobTraits(ranges="ignored", says_length=False),
        lists=ListTraits(digests=True),
    ),
    tokens=TokenTraits(post=401),
)

NEXUS = Profile(
    name="nexus.example.com:8443",
    traits=Traits(
        manifests=ManifestTraits(wants_children=True),
        blobs=BlobTraits(ranges="unitless"),
        lists=ListTraits(null=True, link="/repository/hub{path}?{query}", referrers=False),
    ),
    tokens=None,
    anonymous=False,
)

NVCR = Profile(
    name="nvcr.io",
    traits=Traits(
        auth=AuthTraits(
            realm="/proxy_auth", later_realm="/token", service=None, actions="pull,push"
        ),
        manifests=ManifestTraits(content_type="text/plain; charset=utf-8"),
        lists=ListTraits(referrers=False),
    ),
    user="$oauthtoken",
    cdn=True,
)

PROFILES = (
    DOCKER_HUB,
    GHCR,
    ECR,
    ECR_PUBLIC,
    GAR,
    ACR,
    QUAY,
    HARBOR,
    GITLAB,
    ARTIFACTORY,
    NEXUS,
    NVCR,
)
