"""The status page in a real browser, in front of a real daemon and a real registry."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.real.browser import Page, browser, forwarded
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import UP, Daemon, daemon

SHARED, OWN, SLOW = (
    random.Random(seed).randbytes(size) for seed, size in ((1, 10**6), (2, 10**6), (3, 6 * 10**6))
)
#: So slow that the page is read long before the slow layer is here.
RATE = "150KB/s"
HOSTILE = "<img src=x onerror=boom()><b>bold</b>"
#: What the page's own modules draw when a registry, a node or a job has such a name.
DRAWN = """(async () => {
  const name = %s, digest = "sha256:" + "0".repeat(64);
  const [sharing, flights, jobs, cluster] = await Promise.all(
    ["sharing", "flights", "jobs", "cluster"].map((part) => import(`/ui/${part}.js`)));
  sharing.draw({ images: [{ reference: name, digest: name, size: 5, own_size: 5, layers: [0] }],
    layers: [{ digest: name, size: 5, images: 1 }], more: 0, apart: 5, together: 5, held: [] });
  flights.draw({ flights: [{ digest, repository: name, source: name, offset: 1, total: 2,
    received: 1, seconds: 1, waiters: 1 }], more_flights: 0 });
  jobs.draw({ jobs: [{ id: name, state: name, images: [{ reference: name }], silent: [name],
    more: 0, nodes: null, standings: [{ node: name, state: "failed", bytes: 0, total: 1,
    error: name, seconds: 1 }] }] });
  cluster.draw({ cluster: { kind: "nats", me: name, connected: true, more: 0, liars: [name],
    nodes: [{ name, zone: name, load: 1, free: 1, heard_seconds: 1 }] } });
  cluster.drawHolders({ held: [{ digest: name, size: 1, holders: [{ name, whole: true }] }] },
    [name]);
  const text = document.querySelector("main").textContent;
  return [document.querySelectorAll("main img, main b b").length, text.split(name).length > 9];
})()"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
WIDER = "document.documentElement.scrollWidth > window.innerWidth"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry with three images, two of which share a layer."""
    with open_registry(tmp_path / "registry") as running:
        for name, layers in (("a", [SHARED]), ("b", [SHARED, OWN]), ("slow", [SLOW])):
            put_image(running.name, f"team/{name}", layers)
        yield running


def put_image(host: str, repository: str, layers: list[bytes]) -> None:
    """Push an image of these layers, as 1."""
    with closing(http.client.HTTPConnection(host)) as connection:
        _put_image(connection, repository, layers)


def _put_image(
    connection: http.client.HTTPConnection, repository: str, layers: list[bytes]
) -> None:
    def send(method: str, path: str, body: bytes, kind: str) -> str:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (201, 202), (path, answer.status)
        return answer.headers["Location"]

    def blob(content: bytes, kind: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        place = send("POST", f"/v2/{repository}/blobs/uploads/", b"", kind)
        send("PUT", f"{place}&digest={digest}", content, "application/octet-stream")
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    base = "application/vnd.oci.image"
    config = json.dumps({"os": "linux", "architecture": "amd64", "of": repository}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{base}.manifest.v1+json",
        "config": blob(config, f"{base}.config.v1+json"),
        "layers": [blob(layer, f"{base}.layer.v1.tar") for layer in layers],
    }
    body = json.dumps(manifest).encode()
    send("PUT", f"/v2/{repository}/manifests/1", body, f"{base}.manifest.v1+json")


def test_the_page(tmp_path: Path, registry: RealRegistry) -> None:
    """What is arriving moves, shared layers stand out, keys reach all; names stay text.

    In light and dark, at 360 pixels too; nothing is asked of anybody else, and a daemon that has
    gone is said to be gone.
    """
    sections = {"registries": {UP: {"endpoint": registry.url, "tag_ttl": "0"}}}
    with daemon(tmp_path / "node", sections) as node:
        for name in "ab":
            node.ctl.json("pull", f"{UP}/team/{name}:1")
        digest = f"sha256:{hashlib.sha256(SHARED).hexdigest()}"
        assert [200, 200] == [node.get(f"/v2/{UP}/team/a/blobs/{digest}")[0] for _ in range(2)]
        node.ctl.json("limits", "--registry", f"{UP}={RATE}")
        pull = [sys.executable, "-m", "registryd.cli.main", "pull", f"{UP}/team/slow:1"]
        pulling = subprocess.Popen(
            [*pull, "--socket", str(node.socket)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            asyncio.run(look(tmp_path, node, digest))
        finally:
            pulling.kill()
            pulling.wait()


async def look(folder: Path, node: Daemon, digest: str) -> None:
    """Look at the page as the owner, by a forwarded port."""
    async with forwarded(node.socket) as address, browser(folder / "browser") as page:
        await page.wear(1400)
        await page.open(f"http://{address}/ui")
        await it_is_live(page)
        await keys_reach_the_layers(page, digest)
        await it_fits_and_is_dark(page)
        found = await page.value(DRAWN % json.dumps(HOSTILE))
        asked = {url.split("/ui")[0].split("/api")[0] for url in page.requests}
        said = list(page.said)
        node.process.kill()
        await page.until("document.querySelector('#state').className", lambda it: it == "ill")

        assert [0, True] == found
        assert {f"http://{address}"} == asked
        assert [] == said
        assert "does not answer since" in await page.value("document.body.innerText")


async def it_is_live(page: Page) -> None:
    """The fetch moves, with its rate; the totals are those of the daemon."""
    bar = "document.querySelector('.flight progress')?.value ?? 0"
    first = await page.until(bar)
    await page.until(bar, lambda it: it > first)
    flight = await page.value("document.querySelector('.flight').innerText")
    await page.until("document.querySelectorAll('.layer.shared-0').length", lambda it: it == 2)

    assert f"{UP}/team/slow" in flight and "KiB/s" in flight and "of 5.7 MiB" in flight
    assert "100%" == await page.value("document.querySelector('#total-hits').textContent")
    assert 2 == await page.value("document.querySelectorAll('.image').length")
    assert "1.9 MiB" == await page.value("document.querySelector('#total-size').textContent")


async def keys_reach_the_layers(page: Page, digest: str) -> None:
    """Tab goes from the skip link to the charts; arrows go from layer to layer, and say which."""
    at = "document.activeElement.className + document.activeElement.getAttribute('class')"
    for _ in range(8):
        await page.press("Tab")
        if "layer" in str(await page.value(at)):
            break
    first = await page.value("document.querySelector('#layers .detail').textContent")
    await page.press("ArrowRight")
    lit = await page.value("document.querySelectorAll('.lit').length")
    second = await page.value("document.querySelector('#layers .detail').textContent")

    assert digest in first and "in 2 images" in first
    assert 1 == lit and "of one image" in second


async def it_fits_and_is_dark(page: Page) -> None:
    """Light and dark are two colours; nothing is wider than the window."""
    light, wide = await page.value(BACKGROUND), await page.value(WIDER)
    await page.wear(360, dark=True)
    await page.until(BACKGROUND, lambda it: it != light)
    narrow = await page.value(WIDER)

    assert (False, False) == (wide, narrow)
    assert (await page.picture()).startswith(b"\x89PNG")
