"""Story: an image made one squashfs, once, which lives and goes with its image."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.runtimes import need
from tests.real.stories import Ctl, Daemon, arriving, blobs_of, told
from tests.real.test_flattened import files_of

TYPE = "application/vnd.registryd.conversion.v1"


@pytest.fixture
def node(start: Start, everyones: Upstream) -> Daemon:
    """A daemon that holds nothing yet."""
    return start(everyones.sections)


def test_made_once_and_gone_with_its_image(
    node: Daemon, everyones: Upstream, images: Images, tmp_path: Path
) -> None:
    """One blob for all who ask, readable as the image's own; it goes with the last name."""
    name, other = everyones.name("gzip"), "localhost/mine:1"
    first = node.ctl.json("convert", name)
    again = node.ctl.json("convert", name, "-o", str(tmp_path / "x"))
    node.ctl.ok("tag", name, other)
    elsewhere = node.ctl.json("convert", other)
    asked = f"/v2/localhost/mine/referrers/{images.digest('gzip')}?artifactType={TYPE}"
    (listed,) = json.loads(node.get(asked)[1])["manifests"]
    blob = tmp_path.joinpath("x").read_bytes()
    repository = name.rpartition(":")[0]

    assert (True, False, False) == tuple(each["made"] for each in (first, again, elsewhere))
    assert 1 == len({each["blob"] for each in (first, again, elsewhere)})
    assert first["blob"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
    assert (len(blob), images.digest("gzip")) == (first["size"], first["digest"])
    assert b"hello\n" == files_of(tmp_path / "x", "etc/motd")
    assert "squashfs;zstd;dressed;v=1" == listed["annotations"]["vnd.registryd.conversion.recipe"]
    for place in ("localhost/mine", repository):
        assert (200, blob) == node.get(f"/v2/{place}/blobs/{first['blob']}")
    for words, along in (((), False), (("--referrers",), True)):
        layout = tmp_path / f"layout{along}"
        node.ctl.ok("copy", "-q", f"cache:{other}", f"oci:{layout}:x", *words)
        assert (along, True) == (
            first["blob"] in blobs_of(layout),
            (layout / "oci-layout").exists(),
        )
    (image,) = (each for each in node.ctl.json("images")["images"] if each["reference"] == other)
    assert image["size"] > first["size"] + 700_000
    listed_blobs = {each["digest"]: each for each in node.ctl.json("cache", "ls")["blobs"]}
    assert {name, other} == set(listed_blobs[first["blob"]]["images"])
    assert first["media_type"] == listed_blobs[first["blob"]]["media_type"]
    spared = node.ctl.json("rmi", other)
    assert first["blob"] not in spared["deleted"]
    assert {first["blob"], listed["digest"]} <= set(node.ctl.json("rmi", name)["deleted"])
    assert set() == blobs_of(node.root)


def test_without_a_daemon(everyones: Upstream, start: Start, tmp_path: Path) -> None:
    """The same bytes by a command's own cache; a second command finds them; and by gzip others."""
    node = start(everyones.sections)
    own = Ctl(tmp_path / "home", {"REGISTRYD_ROOT": str(tmp_path / "own")})
    name = f"{everyones.registry.name}/lib/gzip:1"
    flags = ("--plain-http",)
    made = own.json("convert", name, *flags)
    again = own.json("convert", name, *flags, "-o", str(tmp_path / "x"))
    packed = own.json("convert", name, *flags, "--compat", "gzip")
    theirs = node.ctl.json("convert", everyones.name("gzip"))

    assert (True, False, True) == (made["made"], again["made"], packed["made"])
    assert made["blob"] == again["blob"] == theirs["blob"] != packed["blob"]
    assert b"hello\n" == files_of(tmp_path / "x", "etc/motd")
    assert [] == arriving(tmp_path / "own")


def test_what_is_asked_wrongly(node: Daemon, everyones: Upstream, tmp_path: Path) -> None:
    """One line, before anything is fetched."""
    name = everyones.name("gzip")
    (tmp_path / "there").write_text("mine")
    for words, code, said in (
        (("--to", "ext4", "--compat", "gzip"), 64, "--compat speaks of squashfs only"),
        (("--to", "sif"), 64, "which -o names"),
        (("--to", "sif", "-o", "/dev/null"), 64, "no regular file, which a sif is"),
        (("-o", str(tmp_path / "there")), 64, "exists; remove it first"),
        (("--platform", "linux/s390x,linux/arm64"), 64, "one platform"),
    ):
        ran = node.ctl("convert", name, *words)

        assert (code, True) == (ran.code, said in told(ran)), ran
    assert [] == os.listdir(node.root / "blobs/sha256")


class Gate:
    """A tar2sqfs before the daemon's own, which waits to be let go on, and counts itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        os.mkfifo(folder / "gate")
        script = folder / "tar2sqfs"
        real = need("tar2sqfs")
        script.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\necho >> {folder}/begun\n'
            f'read go < {folder}/gate\n{real} "$@"\ncode=$?\necho >> {folder}/ended\nexit $code\n'
        )
        script.chmod(0o755)

    @property
    def before(self) -> tuple[str, ...]:
        """What to put before the daemon's command."""
        return ("env", f"PATH={self._folder}:{os.environ['PATH']}")

    def begun(self, count: int) -> None:
        """Wait until it was started so often."""
        self._counted("begun", count)

    def ended(self, count: int) -> None:
        """Wait until it has ended so often."""
        self._counted("ended", count)

    def _counted(self, what: str, count: int) -> None:
        file = self._folder / what
        for _ in range(2000):
            if file.exists() and len(file.read_bytes()) >= count:
                break
            threading.Event().wait(0.01)
        assert count == len(file.read_bytes())

    def open(self) -> None:
        """Let one go on."""
        (self._folder / "gate").write_text("go\n")


def converting(asked: subprocess.Popen[bytes]) -> None:
    """Wait until a command has told that its image is being converted."""
    assert asked.stderr is not None
    assert any(b'"converting"' in line for line in asked.stderr)


def test_one_run_for_two_and_a_daemon_that_is_killed(
    start: Start, everyones: Upstream, tmp_path: Path
) -> None:
    """Two who ask at once share one run, were the first to leave; kill -9 leaves nothing."""
    gate, name = Gate(tmp_path / "programs"), everyones.name("gzip")
    node = start(everyones.sections, before=gate.before)
    first, second = (node.ctl.begin("convert", name, "--progress", "json") for _ in range(2))
    converting(first)
    converting(second)
    gate.begun(1)
    first.terminate()
    first.communicate()
    gate.open()
    blob = second.communicate()[0].decode().strip()
    node.ctl.ok("rmi", name)
    third = node.ctl.begin("convert", name, "--progress", "none")
    gate.begun(2)
    drafts = [each for each in arriving(node.root) if each.startswith("draft-")]
    node.process.kill()
    node.process.wait()
    said = third.communicate()[1].decode()
    gate.open()
    gate.ended(2)  # its input has ended with the daemon
    again = start(everyones.sections, node.folder, before=gate.before)
    swept = arriving(node.root)
    fourth = again.ctl.begin("convert", name)
    gate.begun(3)
    gate.open()

    assert (0, 0) == (second.returncode, fourth.wait())
    assert f"{blob}\n".encode() == fourth.communicate()[0]
    assert (1, []) == (len(drafts), swept)
    assert (6, 1) == (third.returncode, len(said.splitlines())), said
    assert [] == arriving(node.root)


def test_a_disk_that_is_full(start: Start, everyones: Upstream, tmp_path: Path) -> None:
    """The line says it; what was held is held, nothing else is, and with room again it is made."""
    need("mount")
    root = tmp_path / "small"
    root.mkdir()
    mount = 'mount -t tmpfs -o size=16m,mode=700 registryd "$0" && exec "$@"'
    namespace = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    before = (*namespace, "sh", "-c", mount, str(root))
    node = start(everyones.sections, root=root, before=before)
    inside = Path(f"/proc/{node.process.pid}/root{root}")
    name = everyones.name("gzip")
    node.ctl.ok("pull", "-q", name)
    held = blobs_of(inside)
    free = os.statvfs(inside).f_bavail * os.statvfs(inside).f_frsize
    (inside / "ballast").write_bytes(bytes(free - (600 << 10)))
    ran = node.ctl("convert", "-q", name)

    assert 1 == ran.code, ran
    assert "space" in told(ran).lower()
    assert (held, []) == (blobs_of(inside), arriving(inside))
    (inside / "ballast").unlink()
    assert node.ctl.json("convert", "-q", name)["made"]
