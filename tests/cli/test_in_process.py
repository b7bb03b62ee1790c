"""Without a daemon: the same commands on a cache of one's own, against a real registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, blobs, write_layout
from tests.real.registry import RealRegistry, open_registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that everyone may write to."""
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with the sample under the tag v1."""
    return write_layout(tmp_path / "layout", "v1")


@pytest.fixture
def own(ctl: Ctl, tmp_path: Path) -> Ctl:
    """The program on a cache of its own."""
    ctl.environ["REGISTRYD_ROOT"] = str(tmp_path / "root")
    return ctl


def test_an_empty_cache(own: Ctl) -> None:
    """The first command makes the cache; there is nothing in it."""
    assert own("images", "-q").raw == b""
    assert json.loads(own("cache", "df", "--format", "json").out)["blobs"] == 0
    assert own("status").out.split()[:4] == ["daemon:", "none", "(this", "process)"]
    assert own("rmi", "alpine").code == 2


def test_copy_in_tag_look_remove(own: Ctl, layout: Path, tmp_path: Path) -> None:
    """A file becomes an image of the node's own registry, and goes without a trace."""
    assert own("copy", f"oci:{layout}:v1", "cache:localhost/app:1", "-q").code == 0
    assert own("tag", "localhost/app:1", "localhost/app:2").code == 0
    listed = json.loads(own("images", "--format", "json").out)["images"]
    assert [(image["reference"], image["digest"]) for image in listed] == [
        ("localhost/app:1", DIGEST),
        ("localhost/app:2", DIGEST),
    ]
    held = json.loads(own("cache", "ls", "--format", "json").out)["blobs"]
    assert {blob["digest"].partition(":")[2] for blob in held} == blobs(tmp_path / "root")
    assert {len(blob["images"]) for blob in held} == {2}
    assert len(own("cache", "ls", "-q").out.splitlines()) == len(held)
    table = own("cache", "ls").out
    assert [table.count(kind) for kind in ("index", "manifest", "config", "layer")] == [1, 2, 2, 3]
    assert own("digest", "localhost/app:2").out == f"{DIGEST}\n"
    assert own("tags", "localhost/app").out == "1\n2\n"
    arm = own("inspect", "localhost/app:1", "--platform", "linux/arm64")
    assert json.loads(arm.out)["Architecture"] == "arm64"
    assert own("copy", f"cache:localhost/app@{ARM}", f"oci:{tmp_path / 'arm'}:x", "-q").code == 0
    assert ARM.partition(":")[2] in blobs(tmp_path / "arm")

    gone = own("rmi", "localhost/app:1", "localhost/app:2", "-q")

    assert gone.out.splitlines()[:2] == ["Untagged: localhost/app:1", "Untagged: localhost/app:2"]
    assert blobs(tmp_path / "root") == set()


def test_push_pull_and_write_out(
    own: Ctl, layout: Path, tmp_path: Path, registry: RealRegistry
) -> None:
    """A pull takes one platform and writes out one; the exact bytes come back."""
    name = f"{registry.name}/team/app:1"
    assert own("push", f"oci:{layout}:v1", name, "-q").out == f"{name}@{DIGEST}\n"

    words = ("--platform", "linux/arm64", "-o", f"oci:{tmp_path / 'out'}:x", "-q")
    pulled = own("pull", name, *words)

    assert (pulled.code, pulled.out) == (0, f"{name}@{DIGEST}\n")
    assert (tmp_path / "out/blobs/sha256" / ARM.partition(":")[2]).exists()
    assert len(blobs(tmp_path / "out")) == 4
    expected = (layout / "blobs/sha256" / DIGEST.partition(":")[2]).read_bytes()
    assert own("manifest", name).raw == expected


def test_what_the_cache_lacks_of_an_image_is_fetched(
    own: Ctl, layout: Path, tmp_path: Path, registry: RealRegistry
) -> None:
    """A copy out of the cache is whole, though the pull was of one platform."""
    name = f"{registry.name}/team/part:1"
    own("push", f"oci:{layout}:v1", name, "-q")
    own("pull", name, "--platform", "linux/arm64", "-q")

    assert own("copy", f"cache:{name}", f"oci:{tmp_path / 'out'}:x", "-q").code == 0
    assert blobs(tmp_path / "out") == blobs(layout)


def test_copy_from_a_registry_into_the_cache(
    own: Ctl, layout: Path, registry: RealRegistry
) -> None:
    """All platforms, under the registry's name and under one of our own; then back out."""
    name = f"{registry.name}/team/in:1"
    own("push", f"oci:{layout}:v1", name, "-q")

    assert own("copy", name, "cache:localhost/mine:1", "-q").out == f"localhost/mine:1@{DIGEST}\n"
    assert own("push", "localhost/mine:1", f"{registry.name}/team/back:1", "-q").code == 0
    assert own("digest", f"{registry.name}/team/back:1").out == f"{DIGEST}\n"


def test_not_found_and_unreachable(own: Ctl, registry: RealRegistry) -> None:
    """2 for a tag that is not there, 6 for a registry that is not, 7 for some of several."""
    missing = own("pull", f"{registry.name}/team/app:none", "-q")
    unreachable = own("pull", "127.0.0.1:1/a/b", "-q")

    assert (missing.code, len(missing.words)) == (2, 1)
    assert (unreachable.code, len(unreachable.words)) == (6, 1)


def test_flags_for_connections_are_obeyed(own: Ctl, tmp_path: Path) -> None:
    """--cert-dir is looked at in this process; a wrong one is one line."""
    outcome = own("digest", "ghcr.io/a/b", "--cert-dir", str(tmp_path / "none"))

    assert outcome.code == 64
    assert "is not a directory" in outcome.err


def test_push_of_all_tags(own: Ctl, layout: Path, registry: RealRegistry, tmp_path: Path) -> None:
    """Every tag that the cache has goes out; the second sends nothing. One digest has a file."""
    for tag in ("1", "2"):
        own("copy", f"oci:{layout}:v1", f"cache:localhost/app:{tag}", "-q")
    target = f"{registry.name}/all/app"

    pushed = own("push", "-a", "localhost/app", target)

    assert (pushed.code, pushed.out) == (0, f"{target}:1@{DIGEST}\n{target}:2@{DIGEST}\n")
    assert own("tags", target).out == "1\n2\n"
    listed = json.loads(own("push", "-a", "localhost/app", target, "--format", "json").out)
    assert [f"{target}:1", f"{target}:2"] == [image["reference"] for image in listed["images"]]
    assert [line for line in pushed.words if line.startswith("sent")][1].split()[1] == "0"

    file = tmp_path / "digest"
    assert own("push", "localhost/app:1", f"{target}:3", "--digestfile", str(file)).code == 0
    assert file.read_text() == DIGEST

    assert own("push", "--all-tags", "localhost/none", target).code == 2
    for wrong in (("localhost/app:1",), ("localhost/app", f"{target}:1")):
        assert own("push", "-a", *wrong).code == 64
    assert own("push", "-a", "localhost/app", target, "--digestfile", str(file)).code == 64


def test_a_file_about_hosts_that_is_no_good(own: Ctl, tmp_path: Path) -> None:
    """Who wants a registry is told, with file and key; who wants none is not troubled."""
    conf = tmp_path / "registries.conf"
    conf.write_text("[[registry]]\nblocked = true\n")
    own.environ["CONTAINERS_REGISTRIES_CONF"] = str(conf)
    asked = own("digest", "127.0.0.1:1/a/b")

    assert (64, 1) == (asked.code, len(asked.words)), asked.err
    assert f"{conf}: registry[0]: prefix and location are both missing" in asked.err
    assert 0 == own("images").code
