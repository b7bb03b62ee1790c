"""Lists and errors: rules 16 to 18 of what registries do (4b), against a scripted one."""

from __future__ import annotations

import json
import time

import pytest

from cache.content import Digest
from registryd.oci.errors import BadAnswer, BlobUnknown, ManifestUnknown, RegistryError
from registryd.oci.reference import Reference
from registryd.remote.tag_pages import find_next
from tests.fakes.http import Reply
from tests.fakes.registry import FakeRegistry
from tests.remote.conftest import Connect

DIGEST = Digest.of(b"content")

# 16: lists of tags.


@pytest.mark.parametrize(
    "ways",
    [
        {},
        {"unsorted": True, "twice": True},
        {"digests": True, "more": {"child": ["x"], "manifest": {"sha256:0": {"tag": ["y"]}}}},
        {"most": 100},
        {"link": "{leaf}?{query}"},
        {"link": "{url}{path}?{query}"},
        {"link": "//{authority}{path}?{query}&_x=%7e"},
        {"link": "/repository/hub{path}?{query}"},
        {"link": "http://{authority}/proxied/by{path}?{query}"},
    ],
)
@pytest.mark.parametrize("page", [0, 2])
async def test_4b_16_every_shape_of_a_list(
    registry: FakeRegistry, connect: Connect, ways: dict[str, object], page: int
) -> None:
    """Unsorted, doubled, with digests, ``n`` refused; Link of any kind, with a prefix too."""
    tags = ["1.0", "1.1", "2.0", "latest", "v3"]
    for tag in tags:
        registry.add_image("team/app", tag, tag.encode())
    registry.page = page
    registry.traits = registry.traits.but("lists", **ways)
    client = await connect(registry)

    assert tags == await client.tags(Reference(registry.name, "team/app"))


async def test_4b_16_null(registry: FakeRegistry, connect: Connect) -> None:
    """An empty repository's tags may be null."""
    registry.add_blob("team/app", b"x")
    registry.traits = registry.traits.but("lists", null=True)
    client = await connect(registry)

    assert [] == await client.tags(Reference(registry.name, "team/app"))


@pytest.mark.parametrize(
    "link", ["{path}?last=b", "{path}?last=b&serial={serial}", "{path}?at={at}"]
)
async def test_4b_16_links_in_a_circle(
    registry: FakeRegistry, image: Reference, connect: Connect, link: str
) -> None:
    """A page that was there, or that goes on after the same tag, is the end."""
    path = "/v2/team/app/tags/list"

    def turn(reply: Reply) -> None:
        serial = len(registry.requests)
        target = link.format(path=path, serial=serial, at="ab"[serial % 2])
        reply.body = json.dumps({"tags": ["a", "b"]}).encode()
        reply.headers["Link"] = f'<{target}>; rel="next"'

    registry.change(path, turn)
    client = await connect(registry)

    assert ["a", "b"] == await client.tags(image)
    assert len(registry.requests) <= 3


@pytest.mark.parametrize("piece", ["<", "<a", "<>;", "<> ; ", '<>;a="', "> ;"])
def test_4b_16_link_that_is_meant_to_hurt(piece: str) -> None:
    """A header of 64 KiB is read in one pass."""
    began = time.process_time()
    find_next(piece * (2**16 // len(piece)))

    assert time.process_time() - began < 2.0


# 17, 18: what is no registry, and errors.


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "application/json", "{}"),
        (200, "text/html; charset=utf-8", "true"),
        (200, "text/plain", ""),
        (404, "text/plain", "404 page not found"),
        (404, "application/json", '{"errors":[]}'),
    ],
)
async def test_4b_17_odd_pings_of_registries(
    registry: FakeRegistry, connect: Connect, status: int, kind: str, body: str
) -> None:
    """JSON of any type, or nothing, or 404: a registry; the version header is not required."""
    registry.answer("GET /v2/$", status, body, Content_Type=kind)
    client = await connect(registry)
    await client.ping()


@pytest.mark.parametrize("status", [200, 404])
async def test_4b_17_not_a_registry(registry: FakeRegistry, connect: Connect, status: int) -> None:
    """A web page to everything is none, and no list or blob of it is believed."""
    registry.answer("", status, "<html>Hi</html>", times=None, Content_Type="text/html")
    client = await connect(registry)
    image = Reference(registry.name, "team/app", "1.0")
    with pytest.raises(BadAnswer, match="web page"):
        await client.ping()
    for act in (client.tags(image), client.has_blob(image, DIGEST)):
        if status == 404:
            act.close()
        else:
            with pytest.raises(BadAnswer):
                await act


@pytest.mark.parametrize(
    "body",
    [
        '{"errors":[{"code":"not_found","message":"no such thing","detail":{"a":[1]}}]}',
        '{"errors":[{"code":404,"message":"no such thing"}]}',
        '{"errors":["no such thing"]}',
        '{"details":"no such thing"}',
        '{"message":"no such thing","status":404}',
        '{"error":"x","error_description":"no such thing"}',
        "no such thing",
        "<html><head><title>no such thing</title></head></html>",
    ],
)
async def test_4b_18_what_the_registry_says_is_told(
    registry: FakeRegistry, image: Reference, connect: Connect, body: str
) -> None:
    """Errors in any shape: their words are in the line, their kind is by the status."""
    registry.answer("^(GET|HEAD)", 404, body, times=None)
    client = await connect(registry)
    with pytest.raises(ManifestUnknown, match="no such thing"):
        await client.fetch_manifest(image)
    with pytest.raises(BlobUnknown, match="no such thing"):
        async with client.fetch_blob(image, DIGEST):
            pass


@pytest.mark.parametrize(
    "body", ['{"errors":[{"code":null}]}', "[]", "null", "\xff\xfe", "{" * 9999]
)
@pytest.mark.parametrize("status", [400, 403, 409, 418, 451])
async def test_4b_18_what_says_nothing(
    registry: FakeRegistry, image: Reference, connect: Connect, body: str, status: int
) -> None:
    """A refusal that says nothing is still one line with the status."""
    registry.answer("^GET", status, body, times=None)
    client = await connect(registry)
    with pytest.raises(RegistryError, match=str(status)) as caught:
        await client.fetch_manifest(image)

    assert "\n" not in str(caught.value)
