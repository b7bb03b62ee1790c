"""Other tools read what we write, and we read what they write: skopeo, umoci and buildah."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from registryd.images.folder import FolderSink, FolderSource
from registryd.images.layout import LayoutSink, LayoutSource
from registryd.oci.media_types import DOCKER_MANIFEST
from registryd.oci.platform import Platform
from registryd.transfer.copy import copy_image
from scripts.make_image import make_image

pytestmark = pytest.mark.skipif(
    not (shutil.which("skopeo") and shutil.which("umoci")), reason="needs skopeo and umoci"
)


def run(*command: str | Path) -> bytes:
    """What a program prints; its own words are the failure's."""
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def skopeo(verb: str, *arguments: str) -> bytes:
    """Run skopeo without a signature policy of the machine."""
    return run("skopeo", "--insecure-policy", verb, *arguments)


def files(root: Path) -> dict[str, bytes]:
    """Name -> content of every file."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def digest_of(raw: bytes) -> str:
    """The digest by which others know these bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout that umoci made, with two real layers, under the tag umoci."""
    place = tmp_path_factory.mktemp("umoci")
    layout, bundle = place / "layout", place / "bundle"
    image = f"{layout}:umoci"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", image)
    run("umoci", "unpack", *rootless, "--image", image, bundle)
    for name in ("first", "second"):
        (bundle / "rootfs" / name).write_text(name * 50_000)
        run("umoci", "repack", "--refresh-bundle", "--image", image, bundle)
    return layout


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an index of two platforms (gzip and zstd layers) under the tag index."""
    layout = tmp_path_factory.mktemp("index") / "layout"
    base = tmp_path_factory.mktemp("base")
    (base / "file").write_text("small")
    make_image(layout, tag="index", base=base, index=True, data_bytes=1 << 20)
    return layout


async def test_a_folder_is_the_one_that_skopeo_writes(made: Path, tmp_path: Path) -> None:
    """An image of umoci becomes, file for file, the folder that skopeo makes of it."""
    skopeo("copy", f"oci:{made}:umoci", f"dir:{tmp_path}/theirs")
    await copy_image(LayoutSource(made, "umoci"), FolderSink(tmp_path / "ours"))

    assert files(tmp_path / "theirs") == files(tmp_path / "ours")


async def test_a_folder_of_an_index_is_the_one_that_skopeo_writes(
    index: Path, tmp_path: Path
) -> None:
    """An index becomes, file for file, the folder that skopeo makes of it."""
    skopeo("copy", "--all", f"oci:{index}:index", f"dir:{tmp_path}/theirs")
    await copy_image(LayoutSource(index, "index"), FolderSink(tmp_path / "ours"))

    assert files(tmp_path / "theirs") == files(tmp_path / "ours")


async def test_skopeo_reads_our_folder(index: Path, tmp_path: Path) -> None:
    """From our folder skopeo makes a layout with the digest that the image had."""
    await copy_image(LayoutSource(index, "index"), FolderSink(tmp_path / "folder"))
    skopeo("copy", "--all", f"dir:{tmp_path}/folder", f"oci:{tmp_path}/layout:back")
    before = await LayoutSource(index, "index").root()

    assert before == await LayoutSource(tmp_path / "layout", "back").root()


async def test_we_read_skopeos_folder(index: Path, tmp_path: Path) -> None:
    """From skopeo's folder we make a layout with the digest that the image had."""
    skopeo("copy", "--all", f"oci:{index}:index", f"dir:{tmp_path}/folder")
    copied = await copy_image(
        FolderSource(tmp_path / "folder"), LayoutSink(tmp_path / "layout", "t")
    )
    shown = skopeo("inspect", "--raw", f"oci:{tmp_path}/layout:t")

    assert str(copied.descriptor.digest) == digest_of(shown)
    assert shown == (await LayoutSource(index, "index").root()).raw


async def test_one_platform_is_the_one_that_skopeo_takes(index: Path, tmp_path: Path) -> None:
    """One platform out of an index is the manifest that skopeo picks for it."""
    choice = ("--override-os", "linux", "--override-arch", "arm64")
    run("skopeo", "--insecure-policy", *choice, "copy", f"oci:{index}:index", f"dir:{tmp_path}/d")
    copied = await copy_image(
        LayoutSource(index, "index"),
        LayoutSink(tmp_path / "layout"),
        platforms=[Platform.parse("linux/arm64")],
    )

    assert digest_of((tmp_path / "d" / "manifest.json").read_bytes()) == (
        str(copied.descriptor.digest)
    )


async def test_other_tools_use_a_layout_that_we_add_to(made: Path, tmp_path: Path) -> None:
    """A tag that we add to umoci's layout is listed, inspected and unpacked; theirs stays."""
    shutil.copytree(made, tmp_path / "layout")
    await copy_image(LayoutSource(made, "umoci"), FolderSink(tmp_path / "folder"))
    await copy_image(FolderSource(tmp_path / "folder"), LayoutSink(tmp_path / "layout", "ours"))
    layout = f"{tmp_path}/layout"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run("umoci", "unpack", *rootless, "--image", f"{layout}:ours", tmp_path / "bundle")
    shown = json.loads(skopeo("inspect", f"oci:{layout}:ours"))

    assert run("umoci", "ls", "--layout", layout).split() == [b"umoci", b"ours"]
    assert shown["Digest"] == digest_of(skopeo("inspect", "--raw", f"oci:{made}:umoci"))
    assert (tmp_path / "bundle" / "rootfs" / "second").read_text() == "second" * 50_000


async def test_skopeo_adds_to_a_layout_of_ours(made: Path, tmp_path: Path) -> None:
    """A layout that we made is one that skopeo writes a second tag to."""
    await copy_image(LayoutSource(made, "umoci"), LayoutSink(tmp_path / "layout", "ours"))
    skopeo("copy", f"oci:{made}:umoci", f"oci:{tmp_path}/layout:theirs")
    roots = [await LayoutSource(tmp_path / "layout", tag).root() for tag in ("ours", "theirs")]

    assert roots[0] == roots[1]


@pytest.mark.skipif(not shutil.which("buildah"), reason="needs buildah")
async def test_a_docker_image_of_buildah(tmp_path: Path) -> None:
    """Docker's schema 2 manifest comes through folder and layout with its type and digest."""
    store = ["--root", f"{tmp_path}/store", "--runroot", f"{tmp_path}/run"]
    buildah = ["buildah", *store, "--storage-driver", "vfs"]
    (tmp_path / "file").write_text("content" * 10_000)
    container = run(*buildah, "from", "scratch").decode().strip()
    run(*buildah, "copy", container, tmp_path / "file", "/file")
    run(*buildah, "commit", "--format", "docker", container, f"dir:{tmp_path}/theirs")
    source = FolderSource(tmp_path / "theirs")
    copied = await copy_image(source, LayoutSink(tmp_path / "layout", "d"))
    await copy_image(LayoutSource(tmp_path / "layout", "d"), FolderSink(tmp_path / "back"))

    assert copied.descriptor.media_type == DOCKER_MANIFEST
    assert files(tmp_path / "theirs") == files(tmp_path / "back")
