"""Names as enroot writes them, ids as pyxis gives them, and the folder that is a user's alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Digest
from cache.errors import Fault
from registryd.oci.errors import UsageError
from registryd.schedulers.errors import FolderUnusable
from registryd.schedulers.pyxis import image_of_uri, step_of
from registryd.schedulers.squash_folder import SquashFolder

D = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("uri", "image"),
    [
        ("docker://ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
        ("docker://nvcr.io#nvidia/pytorch:24.01-py3", "nvcr.io/nvidia/pytorch:24.01-py3"),
        ("docker://$oauthtoken@nvcr.io#nvidia/cuda", "nvcr.io/nvidia/cuda:latest"),
        ("docker://nvcr.io/nvidia/cuda:1", "nvcr.io/nvidia/cuda:1"),
        ("docker://ann@org/app:1", "docker.io/org/app:1"),
        (f"docker://org/app@{D}", f"docker.io/org/app@{D}"),
        (f"docker://ann@a.io#org/app:1@{D}", f"a.io/org/app:1@{D}"),
        ("docker://localhost:5000#a/b", "localhost:5000/a/b:latest"),
        ("ubuntu", "docker.io/library/ubuntu:latest"),
    ],
)
def test_enroot_s_names(uri: str, image: str) -> None:
    """With and without user, registry (by # or /), tag and digest."""
    assert image == str(image_of_uri(uri))


@given(st.text(max_size=200).map(lambda text: f"docker://{text}") | st.text(max_size=200))
def test_any_text_is_an_image_or_refused(text: str) -> None:
    """Whatever pyxis hands on, it is a name of an image or one Fault."""
    try:
        assert str(image_of_uri(text))
    except Fault as fault:
        assert fault.exit_code == 64


@pytest.mark.parametrize("ids", [("", "0"), ("7", ""), ("7", "../0"), ("7", "-1")])
def test_ids_are_digits(ids: tuple[str, str]) -> None:
    """Anything else is not pyxis."""
    with pytest.raises(UsageError, match="pyxis runs this"):
        step_of({"SLURM_JOB_ID": ids[0], "SLURM_STEP_ID": ids[1]})


def test_the_last_step_takes_the_file(tmp_path: Path) -> None:
    """A step's file is shared with later steps of the image, and goes with the last of them."""
    folder, digest = SquashFolder(tmp_path / "f"), Digest.of(b"image")
    missing = folder.link("7.0.sqsh", digest)
    (tmp_path / "f/7.0.sqsh").write_bytes(b"image")
    folder.share("7.0.sqsh", digest)
    folder.share("7.0.sqsh", digest)
    shared = folder.link("7.1.sqsh", digest)
    folder.drop("7.0.sqsh")

    assert (None, b"image") == (missing, shared and shared.read_bytes())
    assert 2 == len(list((tmp_path / "f").iterdir()))
    folder.drop("7.1.sqsh")
    folder.drop("7.1.sqsh")
    assert [] == list((tmp_path / "f").iterdir())


def test_what_nobody_releases_goes(tmp_path: Path) -> None:
    """A node that broke down, or a step that was killed, leaves files: they go after a while."""
    folder, digest = SquashFolder(tmp_path / "f"), Digest.of(b"image")
    (tmp_path / "f/7.0.sqsh").write_bytes(b"image")
    (tmp_path / "f/mine.sqsh").touch()
    folder.share("7.0.sqsh", digest)
    changed = (tmp_path / "f/7.0.sqsh").stat().st_ctime
    folder.sweep(changed - 1)
    assert 3 == len(list((tmp_path / "f").iterdir()))
    folder.sweep(changed + 1)

    assert ["mine.sqsh"] == [each.name for each in (tmp_path / "f").iterdir()]


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    """One that others may enter, and a link to one's own, could be somebody else's trap."""
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    for name in ("open", "link"):
        with pytest.raises(FolderUnusable):
            SquashFolder(tmp_path / name)
