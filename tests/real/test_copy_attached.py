"""Stories of what is attached to images, and of all tags, between two real registries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.images.layout import LayoutSink
from registryd.oci.media_types import OCI_MANIFEST
from registryd.transfer.copy import copy_image
from tests.cli.conftest import Ctl
from tests.fakes.endpoints import MemorySource, Sample, image, index, wire, written
from tests.real.registry import RealRegistry, open_registry
from tests.real.runtimes import Skopeo

AMD, ARM = image(b"shared", b"amd"), image(b"shared", b"arm", architecture="arm64")
IMAGE = index(amd64=AMD, arm64=ARM)


def attached(subject: Sample, content: bytes) -> Sample:
    """An artifact about an image."""
    made = image(content)
    members = json.loads(made.root.raw)
    members |= {
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/example",
        "subject": wire(subject.root.descriptor),
    }
    root = written(members)
    return Sample(root, {root.digest: root}, made.blobs)


SBOM = attached(ARM, b"software of arm")
SIGNATURE = attached(IMAGE, b"signature")
COUNTERSIGNATURE = attached(SIGNATURE, b"signature of the signature")
OLD_WAY = image(b"signature as a tag")


@pytest.fixture(scope="module")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, ...]]:
    """Two registries, neither of which lists referrers by itself."""
    folder = tmp_path_factory.mktemp("registries")
    with open_registry(folder / "a") as one, open_registry(folder / "b") as two:
        yield one, two


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    """The program, which knows of no daemon."""
    home = tmp_path / "home"
    home.mkdir()
    return Ctl(home, {"XDG_RUNTIME_DIR": str(home / "run"), "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as v1, and beside it what is attached to it, to its child, and to a signature."""
    place = tmp_path_factory.mktemp("layout") / "l"

    async def fill() -> None:
        await copy_image(MemorySource(IMAGE), LayoutSink(place, "v1"))
        for sample in (SBOM, SIGNATURE, COUNTERSIGNATURE):
            await copy_image(MemorySource(sample), LayoutSink(place, ""))
        tag = str(IMAGE.root.digest).replace(":", "-") + ".sig"
        await copy_image(MemorySource(OLD_WAY), LayoutSink(place, tag))

    asyncio.run(fill())
    return place


def blobs(place: Path) -> set[str]:
    """Everything that a layout holds."""
    return {path.name for path in (place / "blobs/sha256").iterdir()}


def test_what_is_attached_goes_along(
    ctl: Ctl, layout: Path, registries: tuple[RealRegistry, ...], tmp_path: Path
) -> None:
    """From a layout to a registry, to another one, and back: artifacts of artifacts too."""
    one, two = (f"{each.name}/att/app:1" for each in registries)

    first = ctl("copy", f"oci:{layout}:v1", one, "--referrers", "--format", "json", "-q")
    second = ctl("copy", one, two, "-r", "--format", "json", "-q")
    again = ctl("copy", one, two, "--recursive", "--format", "json", "-q")
    bare = ctl("copy", two, f"oci:{tmp_path / 'bare'}:x", "-q")
    back = ctl("copy", two, f"oci:{tmp_path / 'back'}:x", "--referrers", "--digest-tags", "-q")

    assert [0] * 5 == [each.code for each in (first, second, again, bare, back)], second.err
    assert [3, 3, 3] == [json.loads(each.out)["attached"] for each in (first, second, again)]
    assert [False, False, True] == [
        json.loads(each.out)["unchanged"] for each in (first, second, again)
    ]
    old = {digest.hex for digest in (*OLD_WAY.blobs, OLD_WAY.root.digest)}
    everything = blobs(layout) - (old - {d.hex for d in IMAGE.blobs})
    assert everything == blobs(tmp_path / "back")
    artifacts = {s.root.digest.hex for s in (SBOM, SIGNATURE, COUNTERSIGNATURE)}
    assert not artifacts & blobs(tmp_path / "bare")


def test_digest_tags_go_along(
    ctl: Ctl, layout: Path, registries: tuple[RealRegistry, ...], skopeo: Skopeo
) -> None:
    """Tags that name the image's digest and say more come too, and no others."""
    name = f"{registries[0].name}/dt/app"

    without = ctl("copy", f"oci:{layout}:v1", f"{name}:1", "-q")
    listed = ctl("tags", name).out.split()
    outcome = ctl("copy", f"oci:{layout}:v1", f"{name}:1", "--digest-tags", "-q")

    assert (0, ["1"], 0) == (without.code, listed, outcome.code)
    tag = str(IMAGE.root.digest).replace(":", "-") + ".sig"
    found = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{name}"))["Tags"]
    assert ["1", tag] == sorted(found)


def test_all_tags(
    ctl: Ctl, layout: Path, registries: tuple[RealRegistry, ...], tmp_path: Path
) -> None:
    """All tags of a repository, twice: the second time nothing is moved; then to a layout."""
    one, two = (f"{each.name}/all/app" for each in registries)
    for tag in ("1", "2", "edge"):
        ctl("copy", f"oci:{layout}:v1", f"{one}:{tag}", "-q")
    ctl("copy", f"dir:{_folder(tmp_path)}", f"{one}:old", "-q")
    blob = len([line for line in registries[1].log if "POST" in line])

    first = ctl("copy", "--all-tags", one, two, "--format", "json", "-q", "-j", "3")
    posts = len([line for line in registries[1].log if "POST" in line]) - blob
    again = ctl("copy", "--all-tags", one, f"docker://{two}")
    out = ctl("copy", "--all-tags", one, f"oci:{tmp_path / 'l'}", "-q")
    tagged = ctl("copy", "--all-tags", f"{one}:1", two)

    result = json.loads(first.out)
    assert first.code == 0, first.out
    assert (0, 4, 0, 0) == (first.code, *(result[s] for s in ("copied", "unchanged", "failed")))
    everything = {*IMAGE.blobs, *OLD_WAY.blobs}
    assert len(everything) == sum(entry["sent_blobs"] for entry in result["images"])
    assert posts >= len(everything)
    assert "4 unchanged" in again.words[-1]
    assert 4 == len([line for line in again.out.splitlines() if line.startswith("unchanged")])
    assert (0, 64) == (out.code, tagged.code)
    assert ["1", "2", "edge", "old"] == sorted(ctl("tags", two).out.split())


def _folder(tmp_path: Path) -> Path:
    """An image in a folder."""
    from registryd.images.folder import FolderSink

    asyncio.run(copy_image(MemorySource(OLD_WAY), FolderSink(tmp_path / "folder")))
    return tmp_path / "folder"
