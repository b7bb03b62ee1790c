"""Story: registryctl whole, with a daemon and without one: the same words, the same exit codes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import Images, closure, read
from tests.real.runtimes import Skopeo
from tests.real.stories import UP, Ctl, Sections, blobs_of, told, toml

SHORT = 12


@dataclass(frozen=True)
class Place:
    """registryctl, and the cache that it works on."""

    ctl: Ctl
    root: Path


def alone(folder: Path, sections: Sections) -> Place:
    """registryctl without a daemon, which its user has configured."""
    config = folder / "home" / ".config" / "registryd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(toml(sections))
    root = folder / "root"
    return Place(Ctl(folder / "home", {"REGISTRYD_ROOT": str(root)}), root)


@pytest.fixture(params=["daemon", "alone"])
def at(request: pytest.FixtureRequest, start: Start, tmp_path: Path, everyones: Upstream) -> Place:
    """Both ways to work."""
    if request.param == "alone":
        return alone(tmp_path / "alone", everyones.sections)
    node = start(everyones.sections)
    return Place(node.ctl, node.root)


def test_pull_list_look_remove(at: Place, everyones: Upstream) -> None:
    """An image comes, is listed, described, and goes; nothing of it stays."""
    name, images = everyones.name("gzip"), everyones.images
    digest = images.digest("gzip")
    manifest = images.layouts["gzip"] / "blobs" / digest.replace(":", "/")
    document = read(images.layouts["gzip"], digest)

    done = at.ctl.json("pull", name)
    assert (digest, 4) == (done["digest"], done["fetched_blobs"])
    again = at.ctl.json("pull", name)
    assert (0, 4) == (again["fetched_blobs"], again["held_blobs"])

    assert f"{digest}\n" == at.ctl.ok("digest", name)
    assert f"{UP}/lib/gzip@{digest}\n" == at.ctl.ok("digest", "--full-ref", name)
    assert manifest.read_bytes() == at.ctl(*("manifest", name)).raw
    assert manifest.read_bytes() == at.ctl("inspect", "--raw", name).raw
    config = json.loads(at.ctl.ok("inspect", "--config", name))
    assert ["/bin/sh"] == config["config"]["Cmd"]
    described = json.loads(at.ctl.ok("inspect", name))
    assert (digest, f"{UP}/lib/gzip") == (described["Digest"], described["Name"])
    assert [layer["digest"] for layer in document["layers"]] == described["Layers"]
    assert "1\n" == at.ctl.ok("tags", f"{UP}/lib/gzip") == at.ctl.ok("ls", f"{UP}/lib/gzip")

    table = at.ctl.ok("images").splitlines()
    assert 2 == len(table)
    assert [f"{UP}/lib/gzip", "1", digest.partition(":")[2][:SHORT]] == table[1].split()[:3]
    (image,) = at.ctl.json("images")["images"]
    assert (name, digest, ["linux/amd64"]) == (
        image["reference"], image["digest"], image["platforms"],
    )  # fmt: skip
    size = sum(path.stat().st_size for path in (at.root / "blobs").glob("*/*"))
    assert size == image["size"] == image["own_size"]
    assert images.blobs("gzip") == blobs_of(at.root)

    gone = at.ctl.ok("rmi", name).splitlines()
    assert f"Untagged: {name}" == gone[0]
    assert {f"Deleted: {blob}" for blob in images.blobs("gzip")} == set(gone[1:])
    assert [] == at.ctl.json("images")["images"]
    assert set() == blobs_of(at.root)


def test_names_of_ones_own(at: Place, everyones: Upstream) -> None:
    """A second name keeps the content alive until it goes too; foreign names cannot be set."""
    name, mine = everyones.name("zstd"), "localhost/mine:v1"
    at.ctl.ok("pull", "-q", name)

    assert "" == at.ctl.ok("tag", name, mine)
    refused = at.ctl("tag", name, f"{UP}/lib/other:1")
    assert 64 == refused.code
    assert "localhost/" in told(refused)

    df = at.ctl.json("cache", "df")
    assert {name, mine} == {image["reference"] for image in df["images"]}
    assert 0 == df["unreferenced"] == df["ingest"]
    at.ctl.ok("rmi", name)
    assert everyones.images.blobs("zstd") == blobs_of(at.root)
    assert "v1\n" == at.ctl.ok("tags", "localhost/mine")
    freed = at.ctl.json("rmi", mine)["freed"]
    assert df["size"] == freed
    assert set() == blobs_of(at.root)


def test_an_index_is_taken_apart_by_platform(at: Place, everyones: Upstream) -> None:
    """--platform takes one of an index, --all-platforms the rest; all go with the name."""
    name, images = everyones.name("multi"), everyones.images

    at.ctl.ok("pull", "-q", "--platform", "linux/arm64", name)
    (image,) = at.ctl.json("images")["images"]
    assert image["platforms"][0].startswith("linux/arm64")
    assert {images.digest("multi")} | images.blobs("zstd") == blobs_of(at.root)
    described = json.loads(at.ctl.ok("inspect", "--platform", "linux/arm64", name))
    assert images.digest("multi") == described["Digest"]
    chosen = at.ctl.ok("manifest", "--platform", "linux/arm64", name)
    assert images.digest("zstd") == f"sha256:{_sha256(chosen.encode())}"

    at.ctl.ok("pull", "-q", "--all-platforms", name)
    assert images.blobs("multi") == blobs_of(at.root)
    at.ctl.ok("rmi", name)
    assert set() == blobs_of(at.root)


def test_a_pushed_index_goes_with_its_name(start: Start, skopeo: Skopeo, images: Images) -> None:
    """An index that was pushed in is one image in the list, and rmi takes all of it away."""
    node = start({})
    skopeo.copy(images.source("multi"), f"docker://{node.address}/localhost/app:1", "--all")

    assert 1 == len(node.ctl.json("images")["images"])
    node.ctl.ok("rmi", "localhost/app:1")
    assert set() == blobs_of(node.root)


def test_copies_between_all_places(
    at: Place, everyones: Upstream, tmp_path: Path, skopeo: Skopeo
) -> None:
    """registry -> oci -> dir -> cache -> registry -> oci: the digest is the same all the way."""
    images = everyones.images
    digest, wanted = images.digest("multi"), images.blobs("multi")
    far = f"{everyones.registry.name}/copied/multi:1"
    upstream = f"{everyones.registry.name}/lib/multi:1"
    first, second, last = tmp_path / "1", tmp_path / "2", tmp_path / "3"
    plain = ("-q", "--plain-http")

    at.ctl.ok("copy", *plain, f"docker://{upstream}", f"oci:{first}:a")
    assert wanted == closure(first, digest) == blobs_of(first)
    at.ctl.ok("cp", "-q", "--platform", "linux/amd64", f"oci:{first}:a", f"dir:{second}")
    raw = (second / "manifest.json").read_bytes()
    assert images.digest("gzip") == f"sha256:{_sha256(raw)}"
    at.ctl.ok("copy", "-q", f"oci:{first}:a", "cache:localhost/copied:1")
    assert wanted == blobs_of(at.root)
    at.ctl.ok("copy", *plain, "cache:localhost/copied:1", far)
    at.ctl.ok("copy", *plain, far, f"oci:{last}:z")

    assert wanted == closure(last, digest)
    assert digest == skopeo.digest(f"docker://{far}")


def test_pull_writes_it_out_too(at: Place, everyones: Upstream, tmp_path: Path) -> None:
    """pull -o gives a layout of the platform that was pulled."""
    out = tmp_path / "out"

    at.ctl.ok("pull", "-q", "-o", f"oci:{out}:x", everyones.name("gzip"))

    assert everyones.images.blobs("gzip") == blobs_of(out)


def test_words_and_codes_for_what_is_not_there(at: Place, everyones: Upstream) -> None:
    """What is missing is exit code 2 and one line that names it, whoever does the work."""
    missing = (
        ("pull", f"{UP}/lib/gzip:none"),
        ("pull", f"{UP}/lib/none:1"),
        ("pull", "--platform", "linux/s390x", everyones.name("multi")),
        ("digest", f"{UP}/lib/gzip:none"),
        ("manifest", f"{UP}/lib/gzip:none"),
        ("inspect", f"{UP}/lib/gzip:none"),
        ("inspect", "--platform", "linux/s390x", everyones.name("multi")),
        ("tags", f"{UP}/lib/none"),
        ("rmi", f"{UP}/lib/gzip:none"),
        ("tag", "localhost/none:1", "localhost/mine:1"),
        ("push", "localhost/none:1", f"{UP}/lib/new:1"),
        ("copy", f"cache:{UP}/lib/gzip:none", "dir:/nonexistent/x"),
    )
    for words in missing:
        ran = at.ctl(*words, "-q")

        assert 2 == ran.code, (words, ran)
        line = told(ran)
        assert "none" in line or "s390x" in line, line


def test_several_of_which_one_is_missing(at: Place, everyones: Upstream) -> None:
    """What can be pulled is pulled; the end is exit code 7, and a line for each failure."""
    ran = at.ctl("pull", "-q", everyones.name("gzip"), f"{UP}/lib/none:1")

    assert 7 == ran.code
    assert [everyones.name("gzip")] == [line.partition("@")[0] for line in ran.out.splitlines()]
    assert 2 == len(ran.err.splitlines())


def test_status_says_who_works(at: Place, everyones: Upstream) -> None:
    """status counts what is held, and its JSON has the keys of the API."""
    at.ctl.ok("pull", "-q", everyones.name("gzip"))

    status = at.ctl.json("status")

    assert (1, 5, str(at.root), []) == (
        status["images"], status["blobs"], status["root"], status["flights"],
    )  # fmt: skip
    assert "registryctl" in at.ctl.ok("version")


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
