"""From an image and flags to a plan: what is run, with which environment, and what it sees."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.launch.edits import Bind, Edits, EnvChange
from registryd.launch.environment import environment
from registryd.launch.errors import LaunchRefused
from registryd.launch.files import Files, Machine
from registryd.launch.identity import Identity, Person, group_of, identity, passwd_of
from registryd.launch.plan import Caller, Flags, Launch, Site, Wish, plan
from registryd.launch.view import Mount, Step, steps
from registryd.oci.image_config import ImageConfig
from registryd.oci.platform import Platform

PERSON = Person(500, 600, "ann", "/home/ann", {600: "staff", 601: "more"})
PASSWD = "root:x:0:0:root:/root:/bin/sh\nold:x:500:5:::\nweb:x:33:34:::\nbroken:x:y:z\n"
IMAGE = ImageConfig(
    platform=Platform("linux", "amd64"),
    entrypoint=("/entry", "first"),
    cmd=("command",),
    working_dir="/work",
)


def planned(flags: Flags, config: ImageConfig = IMAGE, **more: str) -> Launch:
    """The plan for an image without files, as far as it needs none."""
    caller = Caller(PERSON, "/home/ann/x", {"HOME": "/home/ann", **more})
    return plan(Wish("r/x:1", "sha256:0", config, flags, caller), Files("/nothing"), None)


@pytest.mark.parametrize(
    ("flags", "argv"),
    [
        (Flags(), ("/entry", "first", "command")),
        (Flags(words=("a", "b")), ("/entry", "first", "a", "b")),
        (Flags(entrypoint="/e"), ("/e",)),
        (Flags(entrypoint="/e", words=("a",)), ("/e", "a")),
        (Flags(entrypoint="", words=("a",)), ("a",)),
        (Flags("exec", ("a", "b")), ("a", "b")),
        (Flags("shell", ("-c", "x")), ("/bin/sh", "-c", "x")),
    ],
)
def test_what_is_run(flags: Flags, argv: tuple[str, ...]) -> None:
    """Docker's rules: a given entrypoint drops the image's command, words replace CMD."""
    assert argv == planned(flags).argv


def test_where_it_begins() -> None:
    """Where the caller is, if that is seen; else where the image says; --workdir is exact."""
    assert ("/home/ann/x", "/work", "/") == planned(Flags()).folders
    assert ("/work", "/") == planned(Flags(no_mounts=True)).folders
    assert ("/x",) == planned(Flags(workdir="/x")).folders


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: planned(Flags(), ImageConfig(platform=IMAGE.platform)),
        lambda: planned(Flags(entrypoint="")),
        lambda: Flags("exec"),
        lambda: Flags(workdir="x"),
        lambda: Flags(home="/a", no_home=True),
        lambda: planned(Flags(env=("=x",))),
        lambda: planned(Flags(user="nobody-here")),
    ],
)
def test_refused(wrong: object) -> None:
    """Nothing to run, and flags that cannot be obeyed."""
    with pytest.raises(LaunchRefused):
        wrong()  # type: ignore[operator]


def test_who_wins() -> None:
    """Caller, image, site and modules, prefixes, files, flags: the later one wins."""
    names = ["caller", "image", "edits", "prefix", "file", "flag"]
    caller = dict.fromkeys(names, "caller") | {"LD_PRELOAD": "x", "PATH": "/host", "_": "y"}
    caller |= {f"REGISTRYD_ENV_{name}": "prefix" for name in names[3:]}
    env = environment(
        caller,
        [f"{name}=image" for name in names[1:]],
        Edits(env=tuple(EnvChange(name, "edits") for name in names[2:])),
        own={"HOME": "/h"},
        files=[f"# no\n\n{names[4]}=file\n {names[5]}=file \n"],
        given=["flag=flag", "caller", "absent"],
    )

    assert {name: name for name in names} == {name: env[name] for name in names}
    assert {*names, "HOME", "PATH"} == set(env)
    assert "/usr/local/sbin" == env["PATH"].split(":")[0]


def test_identities() -> None:
    """Nobody, a number, a name of the image, with a group by either; the caller gets their name."""
    group = "g:x:77:\n"
    seen = [identity(user, PERSON, PASSWD, group) for user in ("", "7", "33", "web:g", "web:8")]
    told = passwd_of(PASSWD, Identity(500, 600), PERSON, "/h", "/bin/sh").splitlines()

    assert [(500, 600), (7, 0), (33, 34), (33, 77), (33, 8)] == [(i.uid, i.gid) for i in seen]
    assert "ann:x:500:600:ann:/h:/bin/sh" in told
    assert not any(line.startswith("old:") for line in told)
    assert ["g:x:77:", "staff:x:600:", "more:x:601:"] == group_of(
        group, Identity(500, 600), PERSON
    ).splitlines()
    assert PASSWD == passwd_of(PASSWD, Identity(33, 34), PERSON, "/h", "/bin/sh")


@pytest.fixture
def image(tmp_path: Path) -> Files:
    """An image with links."""
    root = tmp_path / "image"
    for name in ("data/sub", "etc", "usr/bin"):
        (root / name).mkdir(parents=True)
    (root / "etc/file").write_text("x")
    for name, target in (("bin", "usr/bin"), ("run", "/data"), ("loop", "loop"), ("up", "/../.."),
                         ("data/out", "../../../../etc"), ("gone", "/nowhere/x")):  # fmt: skip
        (root / name).symlink_to(target)
    return Files(str(root))


def test_a_text_is_of_the_image(tmp_path: Path) -> None:
    """An image's /etc/passwd that is a link is read in the image, and one that is no file is
    nothing: neither shows a file of the machine, nor keeps anybody waiting."""
    (tmp_path / "secret").write_text("of the machine")
    (tmp_path / "image/etc").mkdir(parents=True)
    (tmp_path / "image/etc/real").write_text("of the image")
    for name, target in (
        ("in", "/etc/real"),
        ("out", f"{tmp_path}/secret"),
        ("up", "../../secret"),
    ):
        (tmp_path / "image/etc" / name).symlink_to(target)
    os.mkfifo(tmp_path / "image/etc/pipe")
    files = Files(str(tmp_path / "image"))

    assert ["of the image", "", "", "", ""] == [
        files.text(f"/etc/{name}") for name in ("in", "out", "up", "pipe", "none")
    ]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of the machine."""
    place = tmp_path / "source"
    (place / "inner").mkdir(parents=True)
    (place / "link").symlink_to("inner")
    (place / "file").write_text("y")
    return place


@pytest.mark.parametrize(
    ("target", "place", "opened"),
    [
        ("/data", "/data", None),
        ("/run/sub", "/data/sub", None),
        ("/data/out", "/etc", None),
        ("/up", "/", None),
        ("/run/new", "/data/new", "/data"),
        ("/new/deep", "/new/deep", "/"),
        ("/bin/../x", "/usr/x", "/usr"),
        ("/gone/y", "/nowhere/x/y", "/"),
    ],
)
def test_where_a_mount_lies(
    image: Files, source: Path, target: str, place: str, opened: str | None
) -> None:
    """Links are followed inside the image; a missing place is made in the nearest folder."""
    found = steps(image, Machine(), [Mount(target, str(source))], writable=False)
    tmpfs = [step.target for step in found if step.action == "tmpfs"]

    assert Step("bind", place, str(source)) == found[-1]
    assert ([opened] if opened else []) == tmpfs
    assert [Step("seal", folder) for folder in tmpfs] == [s for s in found if s.action == "seal"]
    if opened == "/":
        assert Step("link", "/run", text="/data") in found
        assert Step("bind", "/etc", f"{image.root}/etc", read_only=True) in found


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ([("/etc/file", "")], "is a file in the image"),
        ([("/data", "/file")], "is a folder in the image"),
        ([("/etc/file/x", "")], "/etc/file is a file there"),
        ([("/loop/x", "")], "turns in a circle"),
        ([("/x", ""), ("/x/none", "")], "has no none"),
        ([("/x", ""), ("/x/link", "")], "has no link"),
        ([("/x", "/missing")], "is not there"),
    ],
)
def test_no_place(image: Files, source: Path, mounts: list[tuple[str, str]], said: str) -> None:
    """A mount that has no place is one line; an optional one is left out."""
    asked = [Mount(target, f"{source}{below}") for target, below in mounts]
    with pytest.raises(LaunchRefused, match=said):
        steps(image, Machine(), asked, writable=False)

    optional = [*asked[:-1], Mount(asked[-1].target, asked[-1].source, optional=True)]
    found = steps(image, Machine(), optional, writable=False)
    assert len(asked) - 1 == len([s for s in found if s.source.startswith(str(source))])


def test_a_layer_opens_nothing(image: Files, source: Path) -> None:
    """With a layer over the image, places are simply made in it."""
    found = steps(image, Machine(), [Mount("/new/deep", str(source))], writable=True)

    assert ["overlay", "folder", "folder", "bind"] == [step.action for step in found]


def test_an_empty_folder_takes_all(image: Files, source: Path) -> None:
    """In a tmpfs places are made as they are needed, after it is there."""
    mounts = [Mount("/data", mode=0o1777), Mount("/run/a/b", f"{source}/file")]
    found = steps(image, Machine(), mounts, writable=False)

    assert [
        Step("tmpfs", "/data", mode=0o1777),
        Step("folder", "/data/a"),
        Step("point", "/data/a/b"),
        Step("bind", "/data/a/b", f"{source}/file"),
    ] == list(found[1:])


def test_the_site_and_the_flags(image: Files, source: Path) -> None:
    """The site's binds come before the caller's own, which lie on top; edits between the two."""
    flags = Flags(binds=(f"{source}:/z:ro",), no_mounts=True, words=("x",))
    caller = Caller(PERSON, "/", {})
    edits = Edits(binds=(Bind(str(source), "/y"),))
    wish = Wish("x", "", IMAGE, flags, caller, Site(binds=(f"{source}:/w",), env=("S=1",)), edits)
    found = plan(wish, image, Machine())

    last = [step for step in found.steps if step.action == "bind" and step.source == str(source)]
    assert ["/w", "/y", "/z"] == [step.target for step in last]
    assert [False, False, True] == [step.read_only for step in last]
    assert "1" == found.env["S"]


@given(st.lists(st.sampled_from(["..", "run", "data", "new", "up", "out", "."]), max_size=8))
def test_no_mount_leaves_the_image(names: list[str]) -> None:
    """Whatever links and dots a target has, its place has none."""
    image = _Linked()
    try:
        found = steps(image, Machine(), [Mount("/" + "/".join(names))], writable=False)
    except LaunchRefused:
        return

    assert ".." not in found[-1].target.split("/")
    assert found[-1].target.startswith("/")


class _Linked(Files):
    """An image of folders and links that is on no disk."""

    _LINKS: ClassVar = {
        "/run": "/data",
        "/up": "../../..",
        "/data/out": "../../new/x",
        "/data/run": "../up",
    }

    def kind(self, path: str):  # type: ignore[no-untyped-def, override]
        return "link" if path in self._LINKS else "folder" if path in ("/", "/data") else "none"

    def link(self, path: str) -> str:
        return self._LINKS.get(path, "")

    def names(self, path: str) -> tuple[str, ...]:
        return ()
