"""What a registry says of how many requests it allows: read, kept, and told in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from registryd.config import RegistryConfig
from registryd.notices import FEW, KEPT, Notice, Notices, RateLimit, Scarce, Waiting
from registryd.oci.errors import ManifestUnknown, RateLimited
from registryd.oci.reference import Reference
from registryd.remote.rate_limit import read_rate_limit
from registryd.secrets import Login, Secret
from tests.fakes.clock import FakeClock
from tests.fakes.registry import FakeRegistry
from tests.fakes.tokens import FakeTokenServer
from tests.remote.conftest import Connect, OpenRemotes

HUB = {
    "ratelimit-limit": "100;w=21600",
    "ratelimit-remaining": "76;w=21600",
    "docker-ratelimit-source": "192.0.2.7",
}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (HUB, RateLimit(100, 76, 21600, "192.0.2.7")),
        ({"RateLimit-Limit": "100, 100;w=60, 1000;w=3600", "RateLimit-Remaining": "7"},
         RateLimit(100, 7)),
        ({"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": " 4999 "}, RateLimit(5000, 4999)),
        ({"RateLimit-Remaining": "0;w=60"}, RateLimit(None, 0, 60)),
        ({"ratelimit-limit": "200;w=21600"}, RateLimit(200, None, 21600)),
        (HUB | {"docker-ratelimit-source": "evil\tword"}, RateLimit(100, 76, 21600)),
        ({"docker-ratelimit-source": "192.0.2.7"}, None),
        ({"RateLimit-Limit": "many", "RateLimit-Remaining": "-1"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_forms_in_use_are_read(headers: dict[str, str], expected: RateLimit | None) -> None:
    """Docker Hub's, that of the draft, that of gateways; what cannot be read is not there."""
    assert expected == read_rate_limit(CIMultiDict(headers))


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=140))
def test_whatever_comes_is_read_or_not(limit: str, remaining: str, source: str) -> None:
    """No header breaks a request; numbers are bounded and never negative."""
    named = {"RateLimit-Limit": limit, "RateLimit-Remaining": remaining}
    found = read_rate_limit(CIMultiDict(named | {"Docker-RateLimit-Source": source}))

    if found is not None:
        numbers = [found.limit, found.remaining, found.window]
        assert all(number is None or 0 <= number < 10**12 for number in numbers)
        assert found.source in ("", source.strip())


@pytest.mark.parametrize(
    ("rate_limit", "scarce"),
    [
        (RateLimit(100, 11, 21600), False),
        (RateLimit(100, 10, 21600), True),
        (RateLimit(5000, 500), False),
        (RateLimit(5000, 499), True),
        (RateLimit(None, FEW), True),
        (RateLimit(None, FEW + 1), False),
        (RateLimit(100, None, 21600), False),
        (RateLimit(10, 1, 3600), False),  # a pace rather than an allowance
        (RateLimit(100, 1, 1), False),
    ],
)
def test_when_an_allowance_runs_out(rate_limit: RateLimit, scarce: bool) -> None:
    """Ten or fewer are left, or less than a tenth; a window of seconds is no matter."""
    assert scarce == rate_limit.scarce


def test_who_listens_is_told_once_of_each() -> None:
    """Of the registry that they listen to, or of all; nobody twice of the same."""
    notices = Notices()
    few, all_of_them, later = list[Notice](), list[Notice](), list[Notice]()
    wait = Waiting("a.io", "cdn.io", 30.0, 130.0, 429)
    with notices.heard("a.io", few.append), notices.heard("", all_of_them.append):
        for left in (50, 9, 8):
            notices.note("a.io", "ann", RateLimit(100, left, 3600))
        notices.note("b.io", "", RateLimit(100, 0, 3600))
        for _ in range(3):
            notices.tell(wait)
        notices.tell(Waiting("a.io", "cdn.io", 10.0, 140.0, 503))
        with notices.heard("a.io", later.append):
            notices.note("a.io", "ann", RateLimit(100, 7, 3600))
    notices.note("a.io", "", RateLimit(100, 1, 3600))

    assert [
        "a.io allows user ann 9 more requests of 100 in 1 h",
        "cdn.io limits us (429), waiting 30 s",
        "cdn.io is not ready (503), waiting 10 s",
    ] == [str(notice) for notice in few]
    assert [*few[:1], Scarce("b.io", "", RateLimit(100, 0, 3600)), *few[1:]] == all_of_them
    assert [7] == [notice.rate_limit.remaining for notice in later if isinstance(notice, Scarce)]


def test_the_log_has_it_once_until_it_recovers() -> None:
    """Once when it begins to run out, and again when it does again."""
    warned = list[str]()
    notices = Notices(warned.append)
    for left in (50, 9, 8, 0, 100, 3):
        notices.note("a.io", "", RateLimit(100, left, 3600))

    assert [True, True] == [
        f" {left} more" in line for left, line in zip((9, 3), warned, strict=True)
    ]


def test_what_is_kept_is_bounded() -> None:
    """The latest of each registry and account, and no more than so many."""
    notices = Notices()
    for number in range(KEPT + 5):
        notices.note("a.io", f"u{number:04}", RateLimit(100, 50))

    assert KEPT == len(notices.rate_limits)
    assert ("a.io", f"u{KEPT + 4:04}") in notices.rate_limits


async def test_it_is_asked_by_head_and_kept_by_account(
    guarded: FakeRegistry, connect: Connect
) -> None:
    """A HEAD of the manifest; whose it is comes along; any answer is taken note of."""
    guarded.add_image("team/app", "1", b"layer")
    for name, value in HUB.items():
        guarded.header("/manifests/", name, value)
    name, notices = Reference(guarded.name, "team/app", "1"), Notices()
    ann = Login("ann", Secret("secret-word"))
    anonymous = await (await connect(guarded, notices=notices)).rate_limit(name)
    hers = await (await connect(guarded, ann, notices=notices)).rate_limit(name)
    assert {"HEAD"} == {line.split()[0] for line in guarded.lines("/manifests/")}
    guarded.header("/manifests/", "ratelimit-remaining", "75;w=21600")
    await (await connect(guarded, ann, notices=notices)).fetch_manifest(name)

    expected = RateLimit(100, 76, 21600, "192.0.2.7")
    assert [("", expected), ("ann", expected)] == [anonymous, hers]
    assert [76, 75] == [kept.remaining for kept in notices.rate_limits.values()]


async def test_it_does_not_wait_and_may_not_be_said(
    registry: FakeRegistry, connect: Connect, clock: FakeClock
) -> None:
    """A registry without limits says nothing, by a ping too; one that limits us now ends it."""
    client = await connect(registry)
    registry.add_image("team/app", "1", b"layer")
    name = Reference(registry.name, "team/app", "1")
    assert [("", None), ("", None)] == [await client.rate_limit(each) for each in (name, None)]
    with pytest.raises(ManifestUnknown):
        await client.rate_limit(name.with_tag("none"))
    registry.answer("^HEAD", 429, times=None, Retry_After="30")
    with pytest.raises(RateLimited):
        await client.rate_limit(name)

    assert [] == clock.slept


async def test_a_wait_is_told_to_who_listens(
    registry: FakeRegistry, open_remotes: OpenRemotes, clock: FakeClock
) -> None:
    """How long, for whom and why: also where the registry does not say for how long."""
    notices, heard = Notices(), list[Notice]()
    config = {registry.name: RegistryConfig(plain_http=True)}
    client = (await open_remotes(config, notices=notices)).remote(registry.name)
    registry.add_image("team/app", "1", b"layer")
    name = Reference(registry.name, "team/app", "1")
    with notices.heard(registry.name, heard.append), notices.heard("other.io", heard.append):
        registry.answer("^HEAD", 429, Retry_After="30")
        await client.resolve(name)
        registry.answer("^HEAD", 503, Retry_After="7")
        await client.resolve(name)
        registry.answer("^HEAD", 429, times=6)
        await client.resolve(name)

    said = [str(notice).removeprefix(f"{registry.name} ") for notice in heard]
    assert ["limits us (429), waiting 30 s", "is not ready (503), waiting 7 s"] == said[:2]
    assert said[2:]
    assert {"limits us (429)"} == {line.partition(",")[0] for line in said[2:]}


async def test_what_another_host_says_is_not_the_registry_s(
    registry: FakeRegistry, connect: Connect, tokens: FakeTokenServer
) -> None:
    """Limits of the host that a redirect led to are not noted under the registry's name."""
    notices = Notices()
    async with FakeRegistry().serve() as elsewhere:
        elsewhere.add_image("team/app", "1", b"layer")
        elsewhere.header("/manifests/", "ratelimit-remaining", "3")
        registry.answer("/manifests/", 307, Location=f"{elsewhere.url}/v2/team/app/manifests/1")
        client = await connect(registry, notices=notices)
        await client.resolve(Reference(registry.name, "team/app", "1"))

    assert {} == notices.rate_limits
