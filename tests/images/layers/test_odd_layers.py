"""Odd layers, each as it is meant; where it can be, as umoci has it.

What other programs do differently, and the test that says what we do (CASES: test_plan):

| case | test |
|---|---|
| explicit whiteout, at the root, of what is not there | CASES "explicit", "at the root" |
| whiteout in a folder that no layer speaks of | test_folders_that_no_layer_speaks_of |
| opaque whiteout, first, last, at the root, by links | CASES "opaque", "opaque comes last" |
| file to folder and back, link to folder | CASES "file to folder", "link to folder" |
| hard links across layers, to what goes | CASES "hard link", test_a_link_to_what_its_layer_hides |
| hard links as aufs has them | test_what_aufs_kept_aside |
| links through links | test_links_stay_inside, test_links_through_links |
| device nodes and pipes | CASES "modes and owners", test_without_rights |
| names with ``..``, of any bytes, ``.git`` | CASES "odd names", test_ways |
| set-user-id, modes such as 0400, owners | CASES "modes and owners", test_without_rights |
| owners of 32 bits, in base 256 | test_everything_that_headers_say, test_owners_in_base_256 |
| extended attributes | test_attributes_that_stay, test_one_stream_one_tree |
| sparse files, in all four forms | test_sparse_files_of_gnu_tar |
| a configuration without ``history`` | trees.layout, which has none |
"""

from __future__ import annotations

import tarfile
from itertools import pairwise
from pathlib import Path

import pytest

from registryd.images.errors import NotAnImage
from registryd.images.layers.headers import Entry
from registryd.images.layers.plan import flatten
from tests.images.layers.trees import (
    IMAGE,
    comparable,
    extracted,
    layer,
    member,
    streamed,
    umoci,
    walked,
)
from tests.real.dockerd import needs_root


@needs_root
def test_folders_that_no_layer_speaks_of(tmp_path: Path) -> None:
    """A whiteout works in them, and a link on the way to it; what is in them stays otherwise."""
    low = layer(
        member("p/q/x", b"x"), member("p/q/y", b"y"), member("o/n/x", b"x"), member("k/x", b"x"),
        member("l", kind="l", link="p/q"),
    )  # fmt: skip
    high = layer(
        member("p/q/.wh.x"), member("o/n/.wh..wh..opq"), member("k/.wh.none"), member("l/.wh.y"),
        member("m/.wh..wh..opq"),
    )  # fmt: skip
    extracted(tmp_path / "ours", low, high)
    ours = walked(tmp_path / "ours")

    assert {"", "p", "p/q", "o", "o/n", "k", "k/x", "l"} == ours.keys()
    assert comparable(walked(umoci(tmp_path, low, high))) == comparable(ours)
    assert ours == streamed(low, high)


def test_attributes_that_stay() -> None:
    """A user's and capabilities, byte for byte; not what belongs to the machine that packed."""
    capability = "\x01\0\0\x02\0\x20\0\0" + "\0" * 12
    given = {
        "user.k": "\udcff=v\n",
        "security.capability": capability,
        "security.selinux": "x",
        "trusted.overlay.opaque": "y",
        "system.posix_acl_access": "z",
    }
    headers = {f"SCHILY.xattr.{key}": value for key, value in given.items()}
    tree = streamed(layer(member("f", b"f", pax_headers=headers)))

    assert (
        ("security.capability", capability.encode()),
        ("user.k", b"\xff=v\n"),
    ) == tree["f"].xattrs


def test_links_through_links() -> None:
    """Very many of them: hard ones are one file, symbolic ones lead on and on, and are refused."""
    count = 30_000
    names = [b"%d" % number for number in range(count)]
    hard = [Entry((b"f",), b"0"), Entry((names[0],), b"1", link=b"f")]
    hard += [Entry((name,), b"1", link=before) for before, name in pairwise(names)]
    soft = [Entry((name,), b"2", link=after) for name, after in pairwise(names)]
    plan = flatten([hard], IMAGE)
    with pytest.raises(NotAnImage, match="the links of '0' lead on and on"):
        flatten([[*soft, Entry((names[0], b"x"), b"0")]], IMAGE)

    assert (1, count) == (len(plan.others), len(plan.links))
    assert 1 == len({first for _, first in plan.links})


@needs_root
def test_owners_in_base_256(tmp_path: Path) -> None:
    """Owners that octal digits cannot hold are as umoci has them, however they are written."""
    members = [member("f", b"f", uid=3_000_000_000, gid=2_097_152), member("g", uid=2_097_151)]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        raw = layer(*members, form=form)
        folder = tmp_path / str(form)
        folder.mkdir()
        extracted(folder / "ours", raw)
        ours = walked(folder / "ours")

        assert (3_000_000_000, 2_097_152) == ours["f"][2:4]
        assert comparable(walked(umoci(folder, raw))) == comparable(ours)
