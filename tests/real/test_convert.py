"""Story: an image made one squashfs, once, which lives and goes with its image."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.stories import Ctl, Daemon, arriving, blobs_of, told
from tests.real.test_flattened import files_of

TYPE = "application/vnd.registryd.conversion.v1"


@pytest.fixture
def node(start: Start, everyones: Upstream) -> Daemon:
    """A daemon that holds nothing yet."""
    return start(everyones.sections)


def test_made_once_and_gone_with_its_image(
    node: Daemon, everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """One blob for all who ask, readable as the image's own; it goes with the last name."""
    name, other = everyones.name("gzip"), "localhost/mine:1"
    first = node.ctl.json("convert", name)
    again = node.ctl.json("convert", name, "--plain", "-o", str(tmp_path / "x"))
    node.ctl.ok("tag", name, other)
    elsewhere = node.ctl.json("convert", other)
    asked = f"/v2/localhost/mine/referrers/{images.digest('gzip')}?artifactType={TYPE}"
    (listed,) = json.loads(node.get(asked)[1])["manifests"]
    blob = tmp_path.joinpath("x").read_bytes()
    repository = name.rpartition(":")[0]

    assert (True, False, False) == tuple(each["made"] for each in (first, again, elsewhere))
    assert 1 == len({each["blob"] for each in (first, again, elsewhere)})
    assert first["blob"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert (len(blob), images.digest("gzip")) == (first["size"], first["digest"])
    assert b"hello\n" == files_of(tmp_path / "x", "etc/motd")
    assert "squashfs;zstd;plain;v=1" == listed["annotations"]["vnd.registryd.conversion.recipe"]
    for place in ("localhost/mine", repository):
        assert (200, blob) == node.get(f"/v2/{place}/blobs/{first['blob']}")
    (image,) = (each for each in node.ctl.json("images")["images"] if each["reference"] == other)
    assert image["size"] > first["size"] + 700_000
    spared = node.ctl.json("rmi", other)
    assert first["blob"] not in spared["deleted"]
    assert {first["blob"], listed["digest"]} <= set(node.ctl.json("rmi", name)["deleted"])
    assert set() == blobs_of(node.root)


def test_without_a_daemon(everyones: Upstream, start: Start, tmp_path: Path) -> None:
    """The same bytes by a command's own cache; a second command finds them; and by gzip others."""
    node = start(everyones.sections)
    own = Ctl(tmp_path / "home", {"REGISTRYD_ROOT": str(tmp_path / "own")})
    name = f"{everyones.registry.name}/lib/gzip:1"
    flags = ("--plain-http",)
    made = own.json("convert", name, *flags)
    again = own.json("convert", name, *flags, "-o", str(tmp_path / "x"))
    packed = own.json("convert", name, *flags, "--compat", "gzip")
    theirs = node.ctl.json("convert", everyones.name("gzip"))

    assert (True, False, True) == (made["made"], again["made"], packed["made"])
    assert made["blob"] == again["blob"] == theirs["blob"] != packed["blob"]
    assert b"hello\n" == files_of(tmp_path / "x", "etc/motd")
    assert [] == arriving(tmp_path / "own")


def test_what_is_asked_wrongly(node: Daemon, everyones: Upstream, tmp_path: Path) -> None:
    """One line, before anything is fetched."""
    name = everyones.name("gzip")
    (tmp_path / "there").write_text("mine")
    for words, code, said in (
        (("--to", "ext4", "--compat", "gzip"), 64, "--compat speaks of squashfs only"),
        (("-o", str(tmp_path / "there")), 64, "exists; remove it first"),
        (("--platform", "linux/s390x,linux/arm64"), 64, "one platform"),
    ):
        ran = node.ctl("convert", name, *words)

        assert (code, True) == (ran.code, said in told(ran)), ran
    assert [] == os.listdir(node.root / "blobs/sha256")
