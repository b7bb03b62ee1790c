"""Paths of an image: nothing leads out of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registryd.launch.image_tree import ImageTree


@pytest.fixture
def tree(tmp_path: Path) -> ImageTree:
    """An image with links, beside a file that is none of its own."""
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/a.so.1").write_text("inside")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root of the image")
    os.mkfifo(root / "pipe")
    for link, target in {
        "lib": "usr/lib",
        "usr/lib/a.so": "a.so.1",
        "out": "../../../../../../etc/passwd",
        "abs": "/lib/../lib/a.so",
        "self": "self",
        "one": "two/x",
        "two": "one/x",
        "usr/up": str(tmp_path / "secret"),
        "gone": "/nowhere",
        "usr/deep": "/etc/passwd",
        **{f"l{number}": f"l{number - 1}" for number in range(1, 42)},
        "l0": "etc/passwd",
    }.items():
        (root / link).symlink_to(target)
    (tmp_path / "secret").write_text("outside")
    return ImageTree(root)


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/lib/a.so", "/usr/lib/a.so.1"),
        ("/abs", "/usr/lib/a.so.1"),
        ("/out", "/etc/passwd"),
        ("/usr/deep", "/etc/passwd"),
        ("/l39", "/etc/passwd"),
        ("/l40", None),
        ("/../../etc/./passwd", "/etc/passwd"),
        ("/", "/"),
        ("/lib/", "/usr/lib"),
        ("/etc/passwd/", "/etc/passwd"),
        ("/etc/passwd/x", None),
        ("/etc/passwd/..", None),
        ("/self", None),
        ("/one", None),
        ("/usr/up", None),
        ("/gone", None),
        ("/a\0b", None),
        ("/x" * 2000, None),
    ],
)
def test_resolve(tree: ImageTree, path: str, resolved: str | None) -> None:
    """Links and ``..`` stay below the root; circles and what is not there are nothing."""
    assert resolved == tree.resolve(path)


def test_what_is_there(tree: ImageTree) -> None:
    """Files are read up to a limit; a pipe is never opened, a folder listed."""
    assert b"root of the image" == tree.read("/out", 100)
    assert (None, None, None) == (
        tree.read("/out", 3),
        tree.read("/pipe", 100),
        tree.read("/usr/up", 100),
    )
    assert ("a.so", "a.so.1") == tree.names("/lib")
    assert () == tree.names("/etc/passwd")
    assert ["file", "folder", "other", "none"] == [
        tree.kind(path) for path in ("/abs", "/lib", "/pipe", "/self")
    ]


PATHS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=5).map(
    "/".join
)


@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c", "d/a", "d/b"]), PATHS),
    absolute=st.booleans(),
    path=PATHS,
)
@settings(max_examples=80, deadline=None)
def test_no_link_leads_out(links: dict[str, str], absolute: bool, path: str) -> None:
    """Whatever the links of an image are, a resolved path has none and is below the root."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        (root / "d").mkdir()
        for link, target in links.items():
            (root / link).symlink_to(f"/{target}" if absolute else target or ".")

        tree = ImageTree(root)
        for begin in ("", "d/"):
            found = tree.resolve(begin + path)
            if found is not None:
                outside = tree.outside(found).rstrip("/")
                assert os.path.lexists(outside)
                assert outside == os.path.realpath(outside)
                assert f"{outside}/".startswith(f"{root}/")
