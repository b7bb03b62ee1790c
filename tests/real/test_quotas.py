"""Story: two users of one node, each with a quota on what their pulls may hold.

Other users can be had by root alone, so an ordinary user's run leaves this file out.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.images.layers.trees import layer, member
from tests.real.cluster import push_layers
from tests.real.conftest import Start
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import UP, Daemon, blobs_of, told, upstream_at
from tests.real.test_users import Person, person

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")

ANN, BOB = 61011, 61012
BASE = layer(member("base", random.Random(1).randbytes(1_000_000)))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """Images of 3 MB on one base, and one that no quota has room for."""
    with open_registry(tmp_path_factory.mktemp("registry")) as registry:
        for number in range(5):
            own = random.Random(10 + number).randbytes(2_000_000)
            push_layers(registry, f"i{number}", [BASE, layer(member("own", own))])
        push_layers(registry, "large", [random.Random(2).randbytes(9_000_000)])
        yield registry


@pytest.fixture
def node(registry: RealRegistry, place: Path, start: Start) -> Daemon:
    """A daemon where a user may have 8 MB, and bob less."""
    place.chmod(0o755)
    cache = {"root": place / "n/root", "user_quota": "8MB", "quotas": {str(BOB): "4MB"}}
    return start({**upstream_at(registry.url), "cache": cache}, place / "n")


@pytest.fixture
def ann(place: Path, node: Daemon) -> Person:
    return person(place, node, "ann", ANN)


@pytest.fixture
def bob(place: Path, node: Daemon) -> Person:
    return person(place, node, "bob", BOB)


def pulled(who: Person, *names: str) -> None:
    for name in names:
        ran = who.ctl("pull", "-q", f"{UP}/{name}:1")
        assert 0 == ran.code, ran.err


def held(node: Daemon) -> list[str]:
    images = node.ctl.json("images")["images"]
    return sorted(image["name"].rpartition("/")[2] for image in images)


def quota(who: Person) -> tuple[int, int, int]:
    """Images, MB held, MB allowed."""
    (own,) = json.loads(who.ctl("cache", "quota", "--format", "json").out)["quotas"]
    return own["images"], round(own["used"] / 1e6), round(own["quota"] / 1e6)


def test_pulls_within_a_quota(node: Daemon, ann: Person, bob: Person) -> None:
    """ann's fourth image makes her longest unused go, whoever used it, and nothing of root's or
    bob's; what was here already costs bob nothing. What does not fit fails with a line that says
    the numbers, and goes past the cache to who reads it. Each sees their own use and no names, root
    everybody's."""
    node.ctl.ok("pull", "-q", f"{UP}/i0:1")
    pulled(ann, "i1", "i2", "i3")
    pulled(bob, "i0", "i1")
    begun = quota(ann), quota(bob)
    pulled(ann, "i4")
    after = held(node)
    large = ann.ctl("pull", "-q", f"{UP}/large:1")
    for name in ("i1", "i3", "i4"):
        assert 0 == ann.ctl("cache", "pin", f"{UP}/{name}:1").code
    full = ann.ctl("pull", "-q", f"{UP}/i2:1")
    refused = bob.ctl("cache", "pin", f"{UP}/i1:1"), bob.ctl("cache", "pin", f"{UP}/i3:1")
    out = ann.ctl("pull", "-q", f"{UP}/large:1", "-o", f"oci:{ann.home}/out:x")
    everybody = node.ctl.json("cache", "quota")["quotas"]

    assert ((3, 7, 8), (0, 0, 4)) == begun
    assert ["i0", "i1", "i3", "i4"] == after == held(node)
    assert (1, True) == (large.code, "9000" in told(large))
    assert (1, True) == (full.code, " of your quota of 8000000, " in told(full))
    assert [0, 1] == [ran.code for ran in refused]
    assert 0 == out.code, out.err
    assert 3 == len(blobs_of(ann.home / "out"))
    assert [(f"uid:{ANN}", 3), (f"uid:{BOB}", 1)] == [
        (each["owner"], each["images"]) for each in everybody
    ]
    assert str(ANN) not in bob.ctl("cache", "quota").out
    assert str(ANN) in node.ctl.ok("cache", "quota")


def test_requests_and_pushes_within_a_quota(
    node: Daemon, bob: Person, registry: RealRegistry
) -> None:
    """What a user's runtime asks for on the socket counts for them, and passes the cache when it is
    too much; nobody's requests over TCP count for anybody. A push counts, and is refused with the
    numbers."""
    asked = json.loads(bob.ask("GET", f"/v2/{UP}/i0/manifests/1")[1])
    for each in asked["layers"]:
        assert 200 == bob.ask("GET", f"/v2/{UP}/i0/blobs/{each['digest']}", "-o", "/dev/null")[0]
    begun = quota(bob)
    bob.ctl("cache", "pin", f"{UP}/i0:1")
    (layer,) = json.loads(bob.ask("GET", f"/v2/{UP}/large/manifests/1")[1])["layers"]
    file = bob.home / "layer"
    passed, _ = bob.ask("GET", f"/v2/{UP}/large/blobs/{layer['digest']}", "-o", str(file))
    kept = blobs_of(node.root)
    layout = f"oci:{bob.home}/layout:x"
    copied = bob.ctl("copy", "-q", "--plain-http", f"{registry.name}/i1:1", layout)
    pushed = bob.ctl("copy", "-q", layout, "cache:localhost/mine:1")
    status, body = node.get(f"/v2/{UP}/large/blobs/{layer['digest']}")

    assert (1, 3, 4) == begun
    assert (200, layer["digest"]) == (passed, f"sha256:{sha256(file.read_bytes()).hexdigest()}")
    assert layer["digest"] not in kept
    assert "a user's quota has no room" in node.log
    assert 0 == copied.code, copied.err
    assert (3, True) == (pushed.code, "your quota of 4000000" in told(pushed))
    assert (200, layer["size"]) == (status, len(body))
    assert layer["digest"] in blobs_of(node.root)
    assert (1, 3, 4) == quota(bob)


def test_no_way_past_a_quota(node: Daemon, bob: Person) -> None:
    """Nothing that stays counts for nobody: an image whose manifest came as a blob first, one that
    another has brought and a user names here or has converted. What comes by TCP is no user's."""
    config, large = b"{}", random.Random(3).randbytes(6_000_000)
    manifest = json.dumps(manifest_of(config, large)).encode()
    for content in (config, large, manifest):
        file = bob.home / "content"
        file.write_bytes(content)
        place = f"/v2/localhost/mine/blobs/uploads/?digest=sha256:{sha256(content).hexdigest()}"
        assert 201 == bob.ask("POST", place, "-H", "Expect:", "--data-binary", f"@{file}")[0]
    kind = "Content-Type: application/vnd.oci.image.manifest.v1+json"
    place, send = "/v2/localhost/mine/manifests/1", ("-H", kind, "--data-binary", f"@{file}")
    pushed = bob.ask("PUT", place, *send)
    for name in ("i0", "i1"):
        node.ctl.ok("pull", "-q", f"{UP}/{name}:1")
    tagged = bob.ctl("tag", f"{UP}/i0:1", "localhost/mine:2")
    held = quota(bob)
    again = [
        bob.ctl("tag", f"{UP}/i1:1", "localhost/mine:3"),
        bob.ctl("push", "-q", f"{UP}/i1:1", "localhost/mine:4"),
        bob.ctl("convert", f"{UP}/i1:1", "--to", "squashfs"),
    ]
    bob.ask_by_tcp("POST", "/api/v1/pull", "-d", json.dumps({"reference": f"{UP}/i2:1"}))

    assert "your quota of 4000000" in pushed[1]
    assert (0, (1, 3, 4)) == (tagged.code, held)
    assert [True] * 3 == ["your quota of 4000000" in ran.err for ran in again]
    assert [f"uid:{BOB}"] == [each["owner"] for each in node.ctl.json("cache", "quota")["quotas"]]


def manifest_of(config: bytes, layer: bytes) -> dict[str, object]:
    """An image of one layer."""

    def descriptor(kind: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{sha256(content).hexdigest()}"
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    kind = "application/vnd.oci.image"
    return {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": descriptor(f"{kind}.config.v1+json", config),
        "layers": [descriptor(f"{kind}.layer.v1.tar", layer)],
    }
