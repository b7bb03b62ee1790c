"""Layers made one: the rules of whiteouts and links, against a model and against umoci."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.images.errors import NotAnImage
from registryd.images.layers import plan as rules
from registryd.images.layers.headers import Entry
from registryd.images.layers.plan import Plan, flatten
from tests.images.layers.trees import (
    IMAGE,
    WHEN,
    comparable,
    extracted,
    layer,
    member,
    planned,
    streamed,
    umoci,
    walked,
)
from tests.real.dockerd import needs_root

LOW = (
    member("d", kind="d", mode=0o700),
    member("d/x", b"low x"),
    member("d/y", b"low y"),
    member("f", b"low f"),
    member("t", kind="l", link="/d"),
)
#: Second layers, and what is there of each afterwards beside ``d``, ``f`` and ``t`` where unnamed.
CASES = {
    "explicit": ((member("d/.wh.x"),), "d d/y f t"),
    "at the root": ((member(".wh.f"),), "d d/x d/y t"),
    "folder": ((member(".wh.d"),), "f t"),
    "opaque": ((member("d/.wh..wh..opq"), member("d/z", b"z")), "d d/z f t"),
    "opaque comes last": ((member("d/z", b"z"), member("d/.wh..wh..opq")), "d d/z f t"),
    "opaque root": ((member(".wh..wh..opq"), member("n", b"n")), "n"),
    "nothing to hide": ((member("q/.wh.x"), member("d/.wh.q")), "d d/x d/y f t"),
    "hidden and put": ((member("d/x", b"new"), member("d/.wh.x")), "d d/x d/y f t"),
    "through a link": ((member("t/.wh.x"), member("t/new", b"n")), "d d/new d/y f t"),
    "implied": ((member("i/j/k", b"k"), member("i/j/.wh.q")), "d d/x d/y f i i/j i/j/k t"),
    "put and its folder hidden": ((member("d/z", b"z"), member(".wh.d")), "d d/z f t"),
    "a link hidden in between": (
        (member("t/a", b"a"), member(".wh.t"), member("t/b", b"b")),
        "d d/a d/x d/y f t t/b",
    ),
    "file to folder": ((member("f", kind="d"), member("f/g", b"g")), "d d/x d/y f f/g t"),
    "folder to file": ((member("d", b"file"),), "d f t"),
    "link to folder": ((member("t", kind="d"), member("t/g", b"g")), "d d/x d/y f t t/g"),
    "opaque that was a link": (
        (member("t", kind="d"), member("t/.wh..wh..opq"), member("t/g", b"g")),
        "d d/x d/y f t t/g",
    ),
    "hard link": ((member("h", kind="h", link="f"), member("g/h", kind="h", link="./d/x")),
                  "d d/x d/y f g g/h h t"),
    "hard link to what goes": ((member("h", kind="h", link="f"), member(".wh.f")), "d d/x d/y h t"),
    "file twice": ((member("n", b"1"), member("m", kind="h", link="n"), member("n", b"2")),
                   "d d/x d/y f m n t"),
    "odd names": ((member("foo..bar", b"1"), member(b"\xff\xfe", b"2"), member(".git/x", b"3")),
                  "d d/x d/y f foo..bar .git .git/x t \udcff\udcfe"),
    "modes and owners": (
        (
            member("secret", b"s", mode=0o400, uid=5, gid=6),
            member("su", b"s", mode=0o6755),
            member("tmp", kind="d", mode=0o1777),
            member("null", kind="c", major=1, minor=3),
            member("pipe", kind="p", mode=0o600),
            member("attr", b"a", pax_headers={"SCHILY.xattr.user.k": "v"}),
        ),
        "attr d d/x d/y f null pipe secret su t tmp",
    ),
}  # fmt: skip


@needs_root
def test_every_rule_as_umoci_has_it(tmp_path: Path) -> None:
    """Each case alone in a folder of one image: root, tar and umoci's root are the same."""
    low: list[tuple[tarfile.TarInfo, bytes]] = []
    high = list(low)
    wanted = {""}
    for number, (entries, names) in enumerate(CASES.values()):
        top = f"c{number}"
        wanted |= {top, *(f"{top}/{name}" for name in names.split())}
        low += [_moved(top, *each) for each in (member("", kind="d"), *LOW)]
        high += [_moved(top, *each) for each in entries]
    layers = layer(*low), layer(*high)
    extracted(tmp_path / "ours", *layers)
    ours, theirs = walked(tmp_path / "ours"), walked(umoci(tmp_path, *layers))

    assert wanted == ours.keys()
    assert comparable(theirs) == comparable(ours)
    assert ours == streamed(*layers)


def _moved(top: str, made: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """An entry in a folder of its own, links and all."""
    moved = copy(made)
    moved.name = f"{top}/{made.name}"
    if made.islnk() or (made.issym() and made.linkname.startswith("/")):
        moved.linkname = f"{'/' * made.issym()}{top}/{made.linkname.lstrip('/')}"
    return moved, content


@needs_root
@pytest.mark.parametrize("seed", range(3))
def test_images_of_chance_as_umoci_has_them(tmp_path: Path, seed: int) -> None:
    """Six layers of anything, hard links, devices and replaced folders among it."""
    layers = _of_chance(random.Random(seed))
    extracted(tmp_path / "ours", *layers)
    ours = walked(tmp_path / "ours")

    assert comparable(walked(umoci(tmp_path, *layers))) == comparable(ours)
    assert ours == streamed(*layers)


def _of_chance(chance: random.Random) -> list[bytes]:
    layers: list[bytes] = []
    for _ in range(6):
        entries: list[tuple[tarfile.TarInfo, bytes]] = []
        for _ in range(chance.randrange(5, 20)):
            kinds = _kinds(planned(*layers, layer(*entries)))
            path = chance.choice(_PATHS)
            above, slash, name = path.rpartition("/")
            if any(kinds.get(each, b"5") != b"5" for each in _above(path)):
                continue  # umoci refuses a file as a folder
            plain = [
                each
                for each, kind in kinds.items()
                if kind not in b"52" and each != path and path not in _above(each)
            ]
            if kinds.get(path) == b"2":
                continue  # nor does it hide what is behind a link as we do
            made = [
                member(path, chance.randbytes(chance.choice([0, 5, 3000])), mode=0o4711, uid=7),
                member(path, kind="d", mode=chance.choice([0o755, 0o1777])),
                member(f"{above}{slash}.wh.{name}"),
                member(f"{path}/.wh..wh..opq"),
                member(path, kind="c", major=1, minor=3),
                member(path, kind="l", link=f"no/{path}"),
                member(path, b"s", pax_headers={"SCHILY.xattr.user.k": "v", "mtime": f"{WHEN}.5"}),
                member(path, kind="h", link=chance.choice(plain or [path])),
            ]
            entries.append(made[chance.randrange(8 if plain else 7)])
        layers.append(layer(*entries))
    return layers


_PATHS = [
    "a",
    "b",
    "c",
    "a/x",
    "a/y",
    "b/x",
    "b/z",
    "c/d",
    "c/d/e",
    "c/d/f",
    "a/x/q",
    "b/x/q/r",
    "a/foo..bar",
    b"c/\xff".decode("utf-8", "surrogateescape"),
]


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _kinds(plan: Plan) -> dict[str, bytes]:
    everything = (plan.folders, plan.others, *plan.files)
    kinds = {os.fsdecode(named.path): named.entry.kind for group in everything for named in group}
    return kinds | {os.fsdecode(path): kinds[os.fsdecode(first)] for path, first in plan.links}


class Model:
    """A file system as a table: path -> what was put there, None for a folder."""

    def __init__(self) -> None:
        self.paths: dict[str, int | None] = {}

    def apply(self, layer: Sequence[tuple[str, str, int]]) -> None:
        """Whiteouts first, then the entries in order."""
        for verb, path, _ in layer:
            if verb in ("hide", "opaque"):
                self.remove(path, itself=verb == "hide")
        for verb, path, number in layer:
            if verb in ("file", "folder"):
                for above in _above(path):
                    if self.paths.get(above, 0) is not None:
                        self.paths[above] = None
                if verb == "file" or self.paths.get(path, 0) is not None:
                    self.remove(path, itself=True)
                self.paths[path] = number if verb == "file" else None

    def remove(self, path: str, *, itself: bool) -> None:
        for each in list(self.paths):
            if each.startswith(f"{path}/") or (itself and each == path):
                del self.paths[each]


_WORDS = st.tuples(
    st.sampled_from(["file", "folder", "hide", "opaque"]),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join),
)


@given(st.lists(st.lists(_WORDS, max_size=8), max_size=4), st.randoms())
def test_a_model(layers: list[list[tuple[str, str]]], chance: random.Random) -> None:
    """The paths, and whose files they are, are a simple table's, wherever whiteouts stand."""
    model, entries = Model(), []
    numbers = iter(range(1, 1000))
    for words in layers:
        numbered = [(verb, path, next(numbers)) for verb, path in words]
        model.apply(numbered)
        hiding = [each for each in numbered if each[0] in ("hide", "opaque")]
        mixed = [each for each in numbered if each not in hiding]
        for each in hiding:
            mixed.insert(chance.randint(0, len(mixed)), each)
        entries.append([_entry(*each) for each in mixed])
    plan = flatten(entries, IMAGE)
    files = {named.path.decode(): named.entry.uid for named in plan.others}

    assert model.paths == files | {named.path.decode(): None for named in plan.folders[1:]}


def _entry(verb: str, path: str, number: int) -> Entry:
    *above, name = (part.encode() for part in path.split("/"))
    if verb == "hide":
        return Entry((*above, b".wh." + name), b"0")
    if verb == "opaque":
        return Entry((*above, name, rules.OPAQUE), b"0")
    return Entry((*above, name), b"5" if verb == "folder" else b"0", uid=number)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((member("h", kind="h", link="none"),), "'h' is a link to 'none', which is not there"),
        ((member("d", kind="d"), member("h", kind="h", link="d")), "'h' is a link to a folder"),
        ((member("h", kind="h", link="../x"),), "leads out of the image"),
        ((member("a", kind="l", link="b"), member("b", kind="l", link="a"), member("a/x")),
         "the links of 'a' lead on and on"),
        ((member("."),), "the top of the image is no folder"),
        ((member("a/.wh."),), "hides no name"),
        ((member("a/.wh..."),), "hides no name"),
        ((member("a", kind="l", link="x/" * 300), member("a/b")), "more than 256 folders"),
    ],
)  # fmt: skip
def test_what_cannot_be(entries: tuple[tuple[tarfile.TarInfo, bytes], ...], said: str) -> None:
    """It is refused in one line that names the layer."""
    with pytest.raises(NotAnImage, match=rf"^{IMAGE}, layer 1: .*{said}$"):
        planned(layer(*entries))


def test_a_way_that_links_make_longer() -> None:
    """A path that no system call takes is refused, though every name in the layer is short."""
    deep = "/".join(["n" * 250] * 16)
    layers = layer(member("l", kind="l", link=deep), member(f"l/{'m' * 79}"))
    with pytest.raises(NotAnImage, match=rf"^{IMAGE}: a path has more than 4095 bytes$"):
        planned(layers[:-1024], layer(member(f"l/{'m' * 80}")))

    assert 4095 == max(len(named.path) for named in planned(layers).others)


def test_links_stay_inside() -> None:
    """Links in the way are followed from the image's top, whatever they climb; the last is not."""
    plan = planned(
        layer(member("out", kind="l", link="../../../etc"), member("abs", kind="l", link="/etc")),
        layer(member("out/a", b"1"), member("abs/b", b"2"), member("x", kind="h", link="abs/b")),
    )

    assert {b"", b"etc"} == {named.path for named in plan.folders}
    assert ({b"abs", b"out"}, {b"etc/a", b"etc/b"}) == (
        {named.path for named in plan.others},
        {named.path for named in plan.files[1]},
    )
    assert ((b"x", b"etc/b"),) == plan.links


def test_a_link_to_what_its_layer_hides() -> None:
    """Wherever the whiteout stands, a hard link still means the file, also one below a folder."""
    low = layer(member("f", b"f"), member("d/e/x", b"x"))
    high = layer(
        member(".wh.f"), member(".wh.d"), member("h", kind="h", link="f"),
        member("i", kind="h", link="d/e/x"),
    )  # fmt: skip
    tree = streamed(low, high)

    assert ["", "h", "i"] == sorted(tree)
    assert [streamed(low)[name].content for name in ("f", "d/e/x")] == [
        tree[name].content for name in "hi"
    ]


def test_what_aufs_kept_aside() -> None:
    """Its folder of hard links is not in the image, and what links to it is."""
    kept = layer(
        member(".wh..wh.plnk/7", b"shared"), member("a", kind="h", link=".wh..wh.plnk/7"),
        member("b", kind="h", link=".wh..wh.plnk/7"),
    )  # fmt: skip

    assert ["", "a", "b"] == sorted(streamed(kept))
    assert ("a", "b") == streamed(kept)["a"].same


def test_each_layer_begins_anew() -> None:
    """What the last entry of a layer did says nothing of the first one of the next."""
    low, high = layer(member("d/x", b"x")), layer(member("d/z", b"z"), member(".wh.d"))

    assert ["", "d", "d/z"] == sorted(streamed(low, high))


def test_a_layer_that_comes_twice() -> None:
    """A layer that stands above itself changes nothing but what lies between."""
    low = [Entry((b"a",), b"0", size=3), Entry((b"b",), b"1", link=b"a")]
    plan = flatten([low, [Entry((b"a",), b"0", uid=9)], low], IMAGE)

    assert [b"a"] == [named.path for named in plan.files[0]]
    assert ((b"b", b"a"),) == plan.links


def test_the_work_is_bounded() -> None:
    """Whiteouts that walk over a large folder again and again are refused when it is too much."""
    many = [Entry((b"d", b"%d" % number), b"0") for number in range(2000)]
    hides = [Entry((b"d", rules.OPAQUE), b"0")] * (rules.STEPS_LIMIT // 2000 // 500 + 1)
    tree = rules._Tree(IMAGE, steps=rules.STEPS_LIMIT - rules.STEPS_LIMIT // 500)
    tree.begin(0)
    with pytest.raises(NotAnImage, match="lead on and on"):
        for entry in (*many, *hides):
            tree.apply(entry)

    assert tree.steps <= rules.STEPS_LIMIT + len(many) + 1
