"""Binds as people write them."""

from __future__ import annotations

import pytest

from registryd.launch.binds import read_binds
from registryd.launch.edits import Bind
from registryd.launch.errors import LaunchRefused


@pytest.mark.parametrize(
    ("text", "binds"),
    [
        ("/a:/b", [Bind("/a", "/b")]),
        ("/a", [Bind("/a", "/a")]),
        ("/a:/b:ro", [Bind("/a", "/b", read_only=True)]),
        ("/a:/b:ro,z", [Bind("/a", "/b", read_only=True)]),
        ("/a,/b:/c:ro,/d::ro", [
            Bind("/a", "/a"), Bind("/b", "/c", read_only=True), Bind("/d", "/d", read_only=True)
        ]),
        ("./x:/b", [Bind("/here/x", "/b")]),
        ("../x//:/b/.", [Bind("/x", "/b")]),
        ("/a:/etc/slurm", [Bind("/a", "/etc/slurm")]),
    ],
)  # fmt: skip
def test_forms(text: str, binds: list[Bind]) -> None:
    """Docker's form and singularity's, relative sources and lists."""
    assert binds == read_binds(text, "/here")


@pytest.mark.parametrize(
    "text",
    ["", ":/x", "name:/x", "/a:x", "/a:/b:rx", "/a:/b:ro:z", "/a:/b/../c", "/a:/", "/a:/usr",
     "/a:/sys/fs", "/a:/dev", "/a:/var", "/a:/lib64"],
)  # fmt: skip
def test_refused(text: str) -> None:
    """What is no bind, or would hide the system of the image or the kernel's."""
    with pytest.raises(LaunchRefused):
        read_binds(text, "/here")
