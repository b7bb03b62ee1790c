"""How a scripted registry behaves where registries differ: small frozen descriptions.

The defaults are what the distribution specification says; ``tests.fakes.profiles`` has those of the
registries that people use. Templates of places know ``url`` (the registry's), ``authority`` (host
and port), ``other`` (the same server by another host name), ``path`` and what is named with each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

#: A state that is as fragile as the real ones: it must come back exactly as it is.
STATE = "_state=a%2Fb%2Bc%3D%3D"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthTraits:
    """What is asked of whoever comes; ``{realm}`` of a challenge is the token server's URL."""

    #: The path of the token server that the challenge names, and the one that it names once a
    #: token has been refused.
    realm: str = "/token"
    later_realm: str = ""
    service: str | None = "fake"
    #: The scope of the ping's challenge; the actions that a challenge names, "" for those needed.
    placeholder: str = ""
    actions: str = ""
    #: Whether refusals of anything but a ping have a challenge.
    challenges: bool = True
    #: What a token is answered with that was good once, and the words for it.
    stale: int = 401
    stale_words: str = ""
    #: What a token is answered with that is good, but not for this repository.
    short: int = 401
    #: A bearer token on the ping is answered with a Basic challenge.
    ping_wants_basic: bool = False
    #: What DELETE wants of a token.
    delete: str = "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadTraits:
    """How blobs are taken."""

    #: Whether PATCH is taken at all, and what it is refused with.
    chunks: bool = True
    chunks_refused: int = 405
    #: Smallest chunk but for the last, and whether POST says so; largest chunk, and largest PUT.
    least: int = 0
    says_least: bool = False
    most: int = 0
    most_whole: int = 0
    #: Whether ``Transfer-Encoding: chunked``, a blob of no bytes, and a repository that is not
    #: there yet are taken.
    chunked_coding: bool = True
    empty: bool = True
    creates: bool = True
    patched: int = 202
    finished: int = 201
    cancelled: int = 204
    #: The status of an upload: 204, or 404 where it cannot be asked for.
    progress: int = 204
    #: The Range of a session: with ``{last}``, the last byte held.
    reached: str = "0-{last}"
    #: Where a session goes on, with ``name`` and ``session``.
    location: str = "{path}?" + STATE
    #: What a mount is answered with whose blob or source is not there: 202 begins an upload.
    mount_absent: int = 202
    #: The same for a mount that does not say from where; 201 where any repository will do.
    mount_anonymous: int = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestTraits:
    """How manifests are given and taken."""

    #: What a repository that is not there is answered with: 404, 401 (insufficient_scope), or 403.
    absent: int = 404
    #: In place of the true Content-Type; the digest header; HEAD with a length, or at all.
    content_type: str = ""
    says_digest: bool = True
    head: int = 200
    head_says_length: bool = True
    #: Gives schema 1 to whoever does not list OCI types first.
    schema1: bool = False
    #: Refuses what has no ``mediaType``, or another than its Content-Type (405, as ECR).
    strict_type: bool = False
    #: Refuses what points to what is not there; refuses what has a ``subject``.
    wants_children: bool = False
    takes_subject: bool = True
    #: ``sha256-HEX`` as a tag means that digest itself.
    digest_tags: bool = False
    put: int = 201
    delete: int = 202
    #: Whether a PUT by digest takes tags in its query (specification after 1.1.1).
    tags_by_query: bool = False
    #: GETs that one may make in six hours: told with each answer, 429 beyond. HEADs are free.
    pulls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobTraits:
    """How blobs are given. ``ranges``: right, ignored, wrong, unitless, refused (501)."""

    ranges: str = "right"
    says_length: bool = True
    says_digest: bool = False
    #: A coding that is put on top of the bytes, where the client does not refuse it.
    coding: str = ""
    head: int = 200
    #: With which redirect a blob is sent for at the CDN.
    redirect: int = 307
    delete: int = 202


@dataclass(frozen=True, slots=True, kw_only=True)
class ListTraits:
    """How tags, repositories and referrers are listed."""

    tags: bool = True
    catalog: bool = True
    #: Empty lists are null; digests stand among the tags; the order; each one twice.
    null: bool = False
    digests: bool = False
    unsorted: bool = False
    twice: bool = False
    #: Members that nobody asked for.
    more: Mapping[str, object] = field(default_factory=dict, hash=False)
    #: Largest ``n``; what is above is answered with 400.
    most: int = 0
    #: The target of a Link, with ``leaf`` (the last part of the path) and ``query``.
    link: str = "{path}?{query}"
    #: The Referrers API: at all, filtered there, and how many a page.
    referrers: bool = True
    filters: bool = True
    referrers_page: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """All of a registry's ways."""

    auth: AuthTraits = AuthTraits()
    uploads: UploadTraits = UploadTraits()
    manifests: ManifestTraits = ManifestTraits()
    blobs: BlobTraits = BlobTraits()
    lists: ListTraits = ListTraits()
    #: Sends cookies, and answers 403 to a write that brings one back.
    cookies: bool = False

    def but(self, part: str, **changes: object) -> Traits:
        """These traits with some changed of one part."""
        return replace(self, **{part: replace(getattr(self, part), **changes)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTraits:
    """The ways of a token server."""

    #: What POST is answered with (200: by the OAuth 2 rules), and whether it takes passwords.
    post: int = 200
    password: bool = True
    #: The members of its answer beside ``token``; None takes one away.
    members: Mapping[str, object] = field(default_factory=lambda: {"expires_in": 300}, hash=False)
    #: Under which name the token is given.
    member: str = "token"
    #: How often a token may be used.
    uses: int | None = None
    #: What nobody gets who asks for more than pull without a login (200: pull, and no more).
    anonymous_push: int = 200
    #: Refuses scopes of two projects; refuses an action that it does not know.
    one_project: bool = False
    unknown_actions: frozenset[str] = frozenset()
