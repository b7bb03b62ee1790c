"""import, export, load and save: archives into the cache of this process, and out of it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.cli.archives import named
from registryd.cli.own_names import own_name
from registryd.images.collection import FoundImage, ImageFile
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from tests.cli.conftest import Ctl
from tests.cli.test_copy import ARM, DIGEST, write_layout
from tests.fakes.endpoints import MemorySource, image
from tests.images.archives import LAYER, Saved, files, saved

ONE, TWO = Saved(), Saved(layers=(LAYER,), tags=("alpine:3", "ghcr.io/org/app:2"))


@pytest.fixture
def own(ctl: Ctl, tmp_path: Path) -> Ctl:
    """The program on a cache of its own."""
    ctl.environ.update(REGISTRYD_ROOT=str(tmp_path / "root"), TMPDIR=str(tmp_path))
    return ctl


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What ``docker save`` of two images gives."""
    (tmp_path / "saved.tar").write_bytes(saved(ONE, TWO))
    return tmp_path / "saved.tar"


@pytest.fixture
def multi(own: Ctl, tmp_path: Path) -> Ctl:
    """The program, with an index of two platforms in its cache."""
    layout = write_layout(tmp_path / "layout", "v1")
    assert own("import", str(layout), "localhost/multi:1", "-q").out == (
        f"localhost/multi:1@{DIGEST}\n"
    )
    return own


def cached(own: Ctl) -> dict[str, str]:
    """Name -> digest of what the cache holds."""
    listed = json.loads(own("images", "--format", "json").out)["images"]
    return {each["reference"]: each["digest"] for each in listed}


def test_load_puts_all_images_under_names_of_our_own(own: Ctl, archive: Path) -> None:
    """Each name becomes localhost's, in docker's words on stdout, and a line says so."""
    outcome = own("load", "-i", str(archive), "--progress", "none")
    names = ["localhost/x/app:1", "localhost/alpine:3", "localhost/org/app:2"]

    assert (0, [f"Loaded image: {name}" for name in names]) == (
        outcome.code,
        outcome.out.splitlines(),
    )
    assert set(names) == set(cached(own))
    assert any(line.startswith("alpine:3 is localhost/alpine:3 here") for line in outcome.words)


def test_one_image_of_an_archive_under_a_name(own: Ctl, archive: Path) -> None:
    """A file form names the image; NAME is what it is called, and --format json has it all."""
    which = f"docker-archive:{archive}:@1"
    outcome = own("import", which, "mine:2", "--format", "json", "-q")
    (event,) = json.loads(outcome.out)["images"]

    assert ("localhost/mine:2", 2) == (event["reference"], event["sent_blobs"])
    assert {"localhost/mine:2": event["digest"]} == cached(own)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_was_exported_comes_back(multi: Ctl, archive: Path, tmp_path: Path, form: str) -> None:
    """Several images through one archive of ours, an index among them: no digest changes."""
    multi("load", "-q", "-i", str(archive))
    before = cached(multi)
    written = multi("export", *before, "-o", f"{form}:{tmp_path}/out.tar", "-q")
    multi.environ["REGISTRYD_ROOT"] = str(tmp_path / "second")
    read = multi("load", "-q", "-i", f"{tmp_path}/out.tar")

    assert (0, 0) == (written.code, read.code)
    assert list(before.values()) == written.out.splitlines()
    assert before == cached(multi)


def test_a_platform_of_an_index(multi: Ctl, tmp_path: Path) -> None:
    """--platform takes one image of an index; the archive has its name, and its digest."""
    target = tmp_path / "arm.tar"
    multi("save", "localhost/multi:1", "--platform", "linux/arm64", "-o", str(target))
    with tarfile.open(target) as made:
        index = json.load(made.extractfile("index.json"))  # type: ignore[arg-type]
        listing = json.load(made.extractfile("manifest.json"))  # type: ignore[arg-type]

    assert [ARM] == [entry["digest"] for entry in index["manifests"]]
    assert ["localhost/multi:1"] == listing[0]["RepoTags"]


def test_what_is_there_is_kept_or_replaced(multi: Ctl, tmp_path: Path) -> None:
    """export leaves a file unless --force; save writes over it, as docker does."""
    target = tmp_path / "x.tar"
    target.write_bytes(b"precious")
    kept = multi("export", "localhost/multi:1", "-o", f"docker-archive:{target}")
    content = target.read_bytes()
    forced = multi("export", "localhost/multi:1", "-o", f"oci-archive:{target}", "--force", "-q")
    saving = multi("save", "localhost/multi:1", "-o", str(target), "-q")

    assert (64, b"precious", 1) == (kept.code, content, len(kept.words))
    assert (0, f"{DIGEST}\n", 0, "") == (forced.code, forced.out, saving.code, saving.out)


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("import", "saved.tar", "one:1"), 64, "holds 2 images, and one name is for one of them"),
        (("import", "docker-archive:saved.tar:nope"), 2, "no image docker.io/library/nope"),
        (("import", "none.tar"), 64, "image 0 of none.tar has no name there: write import FILE"),
        (("import", "twins.tar"), 64, "would both be localhost/app:1"),
        (("import", "rootfs.tar"), 1, "a root file system is not one"),
        (("import", "empty"), 1, "neither a file oci-layout nor manifest.json"),
        (("import", "missing.tar"), 1, "no such file"),
        (("import", "saved.tar", "--platform", "linux/s390x"), 2, "no image for linux/s390x"),
        (("export", "a", "b", "-o", "oci:x"), 64, "takes one image"),
        (("export", "a", "b", "-o", "docker-archive:x:a"), 64, "takes one image"),
        (("export", "a", "-o", "x.tar"), 64, "is not a file form"),
        (("save", "a", "-o", "a:b"), 64, "without a colon"),
    ],
)
def test_what_cannot_be_is_one_line(
    own: Ctl, archive: Path, tmp_path: Path, words: tuple[str, ...], code: int, line: str
) -> None:
    """Exit code and line say what is wrong, and nothing is put anywhere."""
    (tmp_path / "none.tar").write_bytes(saved(Saved(tags=())))
    twins = saved(Saved(tags=("a.io/app:1",)), Saved(layers=(LAYER,), tags=("b.io/app:1",)))
    (tmp_path / "twins.tar").write_bytes(twins)
    (tmp_path / "rootfs.tar").write_bytes(files({"etc/passwd": b"root"}))
    (tmp_path / "empty").mkdir()
    there = ("saved.tar", "none.tar", "twins.tar", "rootfs.tar", "empty", "missing.tar")
    placed = []
    for word in words:
        name = next((n for n in there if n in word), "")
        placed.append(word.replace(name, f"{tmp_path}/{name}") if name else word)
    outcome = own(*placed, "-q")

    assert (code, 1) == (outcome.code, len(outcome.words)), outcome.err
    assert line in outcome.err.replace(f"{tmp_path}/", "")
    assert {} == cached(own)


@given(st.from_regex(r"\A([a-z]{1,5}\.[a-z]{2}/)?([a-z]{1,4}/){0,2}[a-z]{1,5}(:[a-z0-9]{1,4})?\Z"))
def test_own_names_are_our_own(text: str) -> None:
    """Every name has one of our own, whose own name is itself."""
    own = own_name(Reference.parse(text))

    assert ("localhost", own) == (own.registry, own_name(own))


def test_a_bare_tag_is_told_in_what_to_write() -> None:
    """An image with a tag and no name: the line has what to write."""
    found = [FoundImage(MemorySource(image(b"x")), tags=("3.20",))]
    with pytest.raises(UsageError, match=r"write import FILE localhost/NAME:3.20"):
        named(found, None, ImageFile(Path("x")))
