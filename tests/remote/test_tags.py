"""Lists of tags, as registries send them (rule 16)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.oci.errors import BadAnswer, NameUnknown
from registryd.oci.reference import Reference
from registryd.remote.tag_pages import find_next
from tests.fakes.registry import FakeRegistry, make_image
from tests.remote.conftest import Connect

TAGS = ["1.0", "1.1", "2.0", "latest", "v3"]


@pytest.fixture
def repository(registry: FakeRegistry) -> Reference:
    for tag in TAGS:
        registry.add_manifest("team/app", tag, make_image())
    return Reference(registry.name, "team/app")


@pytest.mark.parametrize("page", [0, 1, 2, 5])
async def test_4b_16_pages(
    registry: FakeRegistry, repository: Reference, connect: Connect, page: int
) -> None:
    """All pages are followed."""
    registry.page = page
    client = await connect(registry)

    assert TAGS == await client.tags(repository)
    assert (-(-len(TAGS) // page) if page else 1) == len(registry.requests)


@pytest.mark.parametrize(
    ("listed", "tags"),
    [
        (None, []),
        ([], []),
        (["b", "a", "b"], ["a", "b"]),
        (["a", "sha256:" + "0" * 64, 5, "", "x y"], ["a"]),
    ],
)
async def test_4b_16_odd_lists(
    registry: FakeRegistry,
    repository: Reference,
    connect: Connect,
    listed: object,
    tags: list[str],
) -> None:
    """null, duplicates, unsorted, digests among the tags, unknown members."""
    body = json.dumps({"name": "x", "tags": listed, "child": [], "manifest": {}})
    registry.answer("^GET", 200, body)
    client = await connect(registry)

    assert tags == await client.tags(repository)


async def test_4b_16_refused_page_size(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A registry that refuses our n is asked without it."""
    registry.answer("n=1000", 400, '{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}')
    client = await connect(registry)

    assert TAGS == await client.tags(repository)
    assert "GET /v2/team/app/tags/list" == registry.requests[-1].line


@pytest.mark.parametrize(
    "link",
    [
        "</v2/team/app/tags/list?last=b>; rel=next",
        '<list?last=b>; rel="next"',
        '<{url}/v2/team/app/tags/list?last=b>; rel="next"',
        '</x>; rel="prev", </v2/team/app/tags/list?last=b>; title="t"; REL="next"',
    ],
)
async def test_4b_16_links(
    registry: FakeRegistry, repository: Reference, connect: Connect, link: str
) -> None:
    """Link is relative, absolute, or one of several."""
    registry.answer("n=1000", 200, '{"tags":["a","b"]}', Link=link.format(url=registry.url))
    registry.answer("list.last=b", 200, '{"tags":["c"]}')
    client = await connect(registry)

    assert ["a", "b", "c"] == await client.tags(repository)


async def test_4b_16_link_to_the_same_page_ends(
    registry: FakeRegistry, repository: Reference, connect: Connect
) -> None:
    """A page that links to itself is the last one."""
    link = '</v2/team/app/tags/list?last=b>; rel="next"'
    registry.answer("list", 200, '{"tags":["a"]}', times=None, Link=link)
    client = await connect(registry)

    assert ["a"] == await client.tags(repository)
    assert 2 == len(registry.requests)


@pytest.mark.parametrize("link", ["<http://[>", "<https://elsewhere.example/list>"])
async def test_4b_16_link_to_elsewhere_is_refused(
    registry: FakeRegistry, repository: Reference, connect: Connect, link: str
) -> None:
    """Pages are on the registry's own host."""
    registry.answer("list", 200, '{"tags":["a"]}', Link=f'{link}; rel="next"')
    client = await connect(registry)
    with pytest.raises(BadAnswer):
        await client.tags(repository)

    assert 1 == len(registry.requests)


async def test_missing_repository(registry: FakeRegistry, connect: Connect) -> None:
    """Exit code 2, with the repository's name."""
    client = await connect(registry)
    with pytest.raises(NameUnknown, match=f"{registry.name}/team/none"):
        await client.tags(Reference(registry.name, "team/none"))


@pytest.mark.parametrize("body", ["[]", "{}", "<html>", '{"tags": "a"}'])
async def test_no_list(
    registry: FakeRegistry, repository: Reference, connect: Connect, body: str
) -> None:
    """What is not a list of tags is told."""
    registry.answer("list", 200, body)
    client = await connect(registry)
    with pytest.raises(BadAnswer, match="list of tags"):
        await client.tags(repository)


@given(st.text())
def test_any_link_header_is_read_or_ignored(header: str) -> None:
    """Nothing in a Link header makes an error."""
    link = find_next(header)

    assert link is None or link in header
