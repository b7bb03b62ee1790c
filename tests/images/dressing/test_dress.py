"""What is added to an image so that other tools start it: where it goes, and what it does there."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from registryd.images.dressing.dress import REPLACED, created, dress
from registryd.images.dressing.enroot import pieces as enroot_pieces
from registryd.images.dressing.singularity import pieces as singularity_pieces
from registryd.images.errors import NotAnImage
from registryd.images.layers.extract import extract
from registryd.images.layers.plan import Plan
from registryd.images.layers.stream import write_tar
from registryd.oci.image_config import ImageConfig
from registryd.oci.platform import Platform
from tests.images.layers.trees import IMAGE, Openers, Tree, layer, member, planned, tarred, walked

AMD64 = Platform("linux", "amd64")
WHEN = 1_600_000_000
#: Shells of images: Debian's, that of Fedora, and Alpine's.
SHELLS = (("dash",), ("bash", "--posix"), ("bash",), ("busybox", "sh"))
NASTY = ("$(echo >pwned)", "`echo >pwned`", "'", '"', "\\", "\n", "${HOME}", "$HOME", "!", " -e ~ ")
texts = st.lists(
    st.one_of(
        st.sampled_from(NASTY),
        st.text(st.characters(min_codepoint=1, exclude_categories=("Cs",)), max_size=9),
    ),
    max_size=5,
).map("".join)


def configured(**members: object) -> ImageConfig:
    """A configuration of an image."""
    return ImageConfig(platform=AMD64, **members)  # type: ignore[arg-type]


def written(plan: Plan, *layers: bytes) -> Tree:
    """The tree of a plan."""
    out = io.BytesIO()
    write_tar(plan, Openers(layers).all(), IMAGE, out)
    return tarred(out.getvalue())


def dressed(config: ImageConfig, *layers: bytes) -> Tree:
    """The tree of an image with those files."""
    return written(dress(planned(*layers), config), *layers)


def content(pieces: Sequence[object], path: str) -> bytes:
    """What the file of this name has."""
    return next(each.content for each in pieces if each.path == path)  # type: ignore[attr-defined]


def ran(words: Sequence[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """A program with this environment alone, in a folder that must stay empty."""
    found = shutil.which(words[0])
    assert found is not None
    done = subprocess.run(
        [found, *words[1:]], capture_output=True, env=environ, cwd=folder, check=False
    )
    assert [] == os.listdir(folder)
    return done


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.lists(texts, min_size=1, max_size=8))
@example(values=list(NASTY))
def test_values_come_back(
    tmp_path_factory: pytest.TempPathFactory, shell: Sequence[str], values: list[str]
) -> None:
    """Every value of a variable and every word of the program is itself again; nothing is run."""
    folder = tmp_path_factory.mktemp("empty")
    scripts = tmp_path_factory.mktemp("scripts")
    config = configured(
        env=tuple(f"V{number}={value}" for number, value in enumerate(values)),
        entrypoint=("/usr/bin/printf", "%s\\0", "word"),
        cmd=tuple(values),
    )
    pieces = singularity_pieces(config)
    environment, run = scripts / "env", scripts / "run"
    environment.write_bytes(content(pieces, ".singularity.d/env/10-docker2singularity.sh"))
    run.write_bytes(content(pieces, ".singularity.d/runscript"))
    sourced = ran((*shell, "-c", f". {environment}; exec /usr/bin/env -0"), folder)
    found = dict(each.split(b"=", 1) for each in sourced.stdout.split(b"\0") if each)
    words = ran((*shell, str(run)), folder).stdout
    given_words = ran((*shell, str(run), *values), folder).stdout

    assert values == [found[b"V%d" % number].decode() for number in range(len(values))]
    assert "".join(f"{each}\0" for each in ("word", *values)) == words.decode()
    assert words == given_words


@pytest.mark.parametrize("shell", SHELLS, ids="-".join)
def test_what_the_environment_has_stays(tmp_path: Path, shell: Sequence[str]) -> None:
    """The machine's variables win but for PATH; names of shells do no harm, others are left out."""
    script = tmp_path / "env"
    names = ("UID=5", "EUID=5", "PPID=1", "IFS=x", "SHELLOPTS=x", "BASH_VERSINFO=9", "OPTIND=3")
    env = ("PATH=/image/bin", "A=1", "B=2", "A=3", "C=", "no.name=x", "=", "X", "N=a\0b", *names)
    pieces = singularity_pieces(configured(env=env))
    script.write_bytes(content(pieces, ".singularity.d/env/10-docker2singularity.sh"))
    folder = tmp_path / "empty"
    folder.mkdir()
    words = (*shell, "-c", f'. {script}; echo "$PATH|$A|$B|${{C-unset}}|$?"; unset PATH')
    done = ran(words, folder, PATH="/bin", B="host")

    assert b"/image/bin|3|host||0\n" == done.stdout
    assert b"" == done.stderr
    assert b"no.name" not in script.read_bytes()


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "arguments", "said"),
    [
        (("echo", "e"), (), (), "e"),
        (("echo", "e"), (), ("a", "b c"), "e a b c"),
        ((), ("echo", "c"), (), "c"),
        ((), ("echo", "c"), ("echo", "a"), "a"),
        (("echo", "e"), ("c",), (), "e c"),
        (("echo", "e"), ("c",), ("a",), "e a"),
        ((), (), ("echo", "a"), "a"),
    ],
)
def test_which_program_runs(
    tmp_path: Path,
    entrypoint: tuple[str, ...],
    cmd: tuple[str, ...],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """Docker's rules, for apptainer's run script and for enroot's."""
    config = configured(entrypoint=entrypoint, cmd=cmd, working_dir=str(tmp_path / "w d"))
    folder = tmp_path / "empty"
    folder.mkdir()
    for pieces, path in (
        (singularity_pieces(config), ".singularity.d/runscript"),
        (enroot_pieces(config, ()), "etc/rc"),
    ):
        script = tmp_path / "script"
        script.write_bytes(content(pieces, path))
        done = ran(("sh", str(script), *arguments), folder, PATH="/bin")

        assert f"{said}\n".encode() == done.stdout, path
    assert (tmp_path / "w d").is_dir()


def test_an_image_that_names_no_program(tmp_path: Path) -> None:
    """It says so, where nothing was asked for; enroot starts a shell."""
    script = tmp_path / "script"
    script.write_bytes(content(singularity_pieces(configured()), ".singularity.d/runscript"))
    folder = tmp_path / "empty"
    folder.mkdir()
    done = ran(("sh", str(script)), folder)

    assert (127, b"", 1) == (done.returncode, done.stdout, done.stderr.count(b"\n"))
    assert b"/bin/sh" in content(enroot_pieces(configured(), ()), "etc/rc")


def test_nothing_of_the_image_changes() -> None:
    """Every path is there once; what is there stays, and what belongs to the tools is replaced."""
    low = layer(
        member("bin", kind="d"),
        member("bin/sh", b"#!"),
        member("etc", kind="d", mode=0o700),
        member("etc/hosts", b"mine"),
        member("etc/resolv.conf", kind="l", link="../run/no"),
        member("run/no", kind="d"),
        member("etc/environment", b"old"),
        member("etc/rc", kind="d"),
        member("etc/rc/S01", b"theirs"),
        member("etc/fstab", kind="l", link="/etc/hosts"),
        member(".singularity.d", kind="d"),
        member(".singularity.d/runscript", b"old", mode=0o755),
        member(".singularity.d/deep/x", b"old"),
        member("kept", kind="h", link=".singularity.d/deep/x"),
        member("also", kind="h", link=".singularity.d/deep/x"),
        member("tmp", kind="l", link="var/tmp"),
        member("environment", b"a file of the image"),
    )
    tree = dressed(configured(created="2020-09-13T12:26:40.123456789Z"), low)
    before = written(planned(low), low)

    for name in ("bin", "bin/sh", "etc/hosts", "etc/resolv.conf", "etc/rc/S01", "tmp"):
        assert before[name] == tree[name], name
    assert "d" == tree["etc/rc"].kind
    assert ("-", WHEN) == (tree["etc/fstab"].kind, tree["etc/fstab"].mtime)
    assert before["etc/environment"].content != tree["etc/environment"].content
    assert before["environment"].content == tree["environment"].content
    assert ".singularity.d/deep" not in tree
    assert before[".singularity.d/runscript"].content != tree[".singularity.d/runscript"].content
    assert ("also", "kept") == tree["kept"].same
    assert before["kept"].content == tree["also"].content
    assert "d" == tree["var/tmp"].kind
    assert 0o1777 == tree["var/tmp"].mode


def test_links_in_the_way_stay_inside() -> None:
    """A link on the way to a file is followed from the image's top; one that is lost is no harm."""
    config = configured(volumes=("/data/x", "/loop/y", "/out/z", "/bin/sh/no", "/", ""))
    tree = dressed(
        config,
        layer(
            member("etc", kind="l", link="/usr/../../sys-etc"),
            member("data", kind="l", link="nowhere/at/all"),
            member("loop", kind="l", link="loop"),
            member("out", kind="l", link="../../../../outside"),
            member("bin/sh", b"#!"),
            member("sys-etc/passwd", b"root"),
            member("sys-etc/resolv.conf", kind="l", link="../run/systemd/stub.conf"),
            member("sys-etc/hosts", kind="l", link="/etc/other-hosts"),
            member("sys-etc/hostname", kind="l", link="hostname"),
            member("sys-etc/group", kind="l", link=f"/{'x' * 300}/{'y' * 300}"),
            member(".singularity.d", kind="l", link="/bin"),
        ),
    )

    assert "l" == tree["etc"].kind
    assert "-" == tree["sys-etc/rc"].kind
    assert "-" == tree["sys-etc/other-hosts"].kind
    assert "-" == tree["run/systemd/stub.conf"].kind
    assert all("l" == tree[f"sys-etc/{name}"].kind for name in ("hosts", "hostname", "group"))
    assert not [name for name in tree if "xxx" in name or "yyy" in name]
    assert "d" == tree["nowhere/at/all/x"].kind
    assert "d" == tree["outside/z"].kind
    assert "d" == tree[".singularity.d"].kind
    assert ["bin", "bin/sh"] == [name for name in tree if name.startswith("bin")]
    assert not [name for name in tree if name.startswith(("loop/", "etc/"))]


def test_what_a_configuration_claims(tmp_path: Path) -> None:
    """Folders that no file system takes are left out; the others are there, and made once."""
    volumes = ("/v/a", "v/a/", "/v/../w", "/" + "x" * 256, "/n\0l", "/d" * 300, "/v b")
    config = configured(volumes=volumes, working_dir="/work/./dir", labels={"k": "ü"})
    tree = dressed(config, layer(member("f", b"x")))
    target = tmp_path / "root"
    target.mkdir()
    plan = dress(planned(), config)
    extract(plan, [], IMAGE, target, privileged=False)
    labels = json.loads((target / ".singularity.d/labels.json").read_text())

    assert {"v/a", "w", "work/dir", "v b"} <= tree.keys()
    assert set(tree) - {"f"} == set(walked(target))
    assert "ü" == labels["k"]
    assert [
        "${ENROOT_ROOTFS}/v/a /v/a none x-create=dir,bind,rw,nosuid,nodev",
        "${ENROOT_ROOTFS}/w /w none x-create=dir,bind,rw,nosuid,nodev",
    ] == (target / "etc/fstab").read_text().splitlines()[:2]
    assert {*(f"mnt/{n}" for n in range(10)), "ch/environment", "etc/resolv.conf"} <= tree.keys()
    assert plan.inodes == len(tree) - 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2020-09-13T12:26:40Z", WHEN),
        ("2020-09-13T14:26:40.999999999+02:00", WHEN),
        ("2020-09-13T12:26:40", WHEN),
        ("0001-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 2**32 - 1),
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_when_an_image_was_made(said: str, seconds: int) -> None:
    """The time of the configuration is that of the files; without one it is 1970."""
    assert seconds == created(configured(created=said))


names = st.sampled_from(("a", "etc", "rc", ".singularity.d", "env", "tmp", "mnt", "0", "run"))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
members = st.tuples(paths, st.sampled_from("fdlh"), paths)


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(members, max_size=12), volumes=st.lists(paths, max_size=3))
def test_any_image_can_be_dressed(entries: list[tuple[str, str, str]], volumes: list[str]) -> None:
    """Each path once, its folder before it; a second time nothing is new."""
    made = []
    there: set[str] = set()
    for path, kind, target in entries:
        if kind == "h" and target not in there:
            continue
        if kind in "fh":
            there.add(path)
        made.append(member(path, b"x" if kind == "f" else b"", kind=kind, link=target))
    try:
        plan = planned(layer(*made))
    except NotAnImage:
        return
    config = configured(volumes=tuple(volumes), env=("A=b",))
    once = dress(plan, config)

    assert written(once, layer(*made)) == written(dress(once, config), layer(*made))


def test_no_path_of_ours_is_an_image_of_its_own() -> None:
    """An empty image gets everything, and what is replaced is among it."""
    plan = dress(Plan(planned().folders), configured())
    named = [*plan.folders, *plan.others, *(each for each, _ in plan.extras)]

    assert set(REPLACED) <= {each.path.decode() for each in named}
    assert len(named) == len({each.path for each in named})
