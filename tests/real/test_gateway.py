"""Story: images imported for many users: private ones, lists, a queue that outlives the daemon.

The daemon has no login of its own; ann's password opens the registry. Other users can be had by
root alone, so an ordinary user's run leaves this file out.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mounts.stage import NOBODY, open_stage
from tests.real.conftest import PASSWORD, USER, Start, Upstream
from tests.real.images import Images, read
from tests.real.runtimes import Skopeo
from tests.real.stories import UP, Daemon, Sections, daemon, told
from tests.real.test_users import Person, person

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")

NAME = f"{UP}/lib/gzip:1"
CREDS = f"{USER}:{PASSWORD}"


@pytest.fixture
def sections(guarded: Upstream) -> Sections:
    """A daemon without a login."""
    return {"registries": {UP: {"endpoint": guarded.registry.url}}}


@pytest.fixture
def node(place: Path, sections: Sections, start: Start) -> Daemon:
    """A daemon whose socket every user can reach."""
    place.chmod(0o755)
    return start(sections, place / "n")


@pytest.fixture
def ann(place: Path, node: Daemon) -> Person:
    """Who has the password."""
    return person(place, node, "ann", 61001)


@pytest.fixture
def eve(place: Path, node: Daemon) -> Person:
    """Who has not."""
    return person(place, node, "eve", 61002)


def test_a_private_image_is_its_puller_s(
    ann: Person, eve: Person, node: Daemon, guarded: Upstream
) -> None:
    """ann's image is hers: eve sees neither it, nor its name, nor its state; whom ann names reads
    it too, and it is a whole squashfs that nobody finds by a path."""
    id = guarded.images.digest("gzip").partition(":")[2]
    pulled = ann.ctl("gateway", "pull", "--creds", CREDS, NAME)
    shown = json.loads(ann.ctl("gateway", "show", NAME, "--format", "json").out)["image"]
    content = ann.ask("GET", f"/api/v1/gateway/content?image={NAME}", "-o", str(ann.home / "x"))

    assert (0, f"{id}\n") == (pulled.code, pulled.out), pulled
    assert [
        f"docker:{NAME}: {state}" for state in ("PENDING", "PULLING", "CONVERSION", "TRANSFER")
    ] == list(dict.fromkeys(line.partition(" (")[0] for line in pulled.err.splitlines()))
    assert (True, [61001], []) == (shown["private"], shown["users"], shown["groups"])
    assert 200 == content[0]
    assert shown["content"] == f"sha256:{hashlib.sha256((ann.home / 'x').read_bytes()).hexdigest()}"
    said = subprocess.run(["unsquashfs", "-cat", ann.home / "x", "etc/motd"], capture_output=True)
    assert b"hello\n" == said.stdout
    for words in (("lookup", NAME), ("show", NAME), ("lookup", f"id:{id}"), ("show", f"id:{id}")):
        assert 2 == eve.ctl("gateway", *words).code, words
    for words in (("images",), ("queue",)):
        ran = eve.ctl("gateway", *words, "--format", "json")
        assert (0, False) == (ran.code, UP in ran.out)
    assert 404 == eve.ask("GET", f"/api/v1/gateway/content?image={NAME}")[0]
    assert 404 == eve.ask("GET", f"/api/v1/gateway/content?image=id:{id}")[0]
    assert 403 == node.get(f"/api/v1/gateway/lookup?image={NAME}")[0]
    assert 3 == eve.ctl("gateway", "metrics").code
    assert 3 == ann.ctl("gateway", "expire", NAME).code
    files = [path for path in (node.root / "gateway").rglob("*") if path.is_file()]
    assert [f"{id}.squashfs"] == [path.name for path in files]
    assert 0o700 == (node.root / "gateway").stat().st_mode & 0o777
    assert files[0].samefile(node.root / "blobs" / shown["content"].replace(":", "/"))
    # With her own list, and nothing is converted again.
    shared = ann.ctl("gateway", "pull", "--creds", CREDS, "--user", "61002,", NAME)
    assert "CONVERSION" not in shared.err
    assert f"{id}\n" == eve.ctl("gateway", "lookup", NAME).out
    assert [61001, 61002] == json.loads(eve.ctl("gateway", "show", NAME, "--format", "json").out)[
        "image"
    ]["users"]
    looked = node.ctl.json("gateway", "metrics")["lookups"]
    assert [("61002", f"docker:{NAME}", id)] == [(e["user"], e["name"], e["id"]) for e in looked]
    node.ctl.ok("gateway", "expire", f"docker:{NAME}")
    assert [2, 2] == [who.ctl("gateway", "lookup", NAME).code for who in (ann, eve)]
    assert [] == list((node.root / "gateway/images").iterdir())


def test_whom_the_puller_names_starts_it(node: Daemon) -> None:
    """A user who is in no registry mounts and starts the image that they were given, by an open
    file and no path; and nothing before they were."""
    pull = ("gateway", "pull", "-q", "--creds", CREDS, NAME)
    node.ctl.ok(*pull)
    with open_stage(NOBODY) as stage:
        stage.environ["REGISTRYD_SOCKET"] = str(node.socket)
        refused = stage.ctl("mount", f"gateway:{NAME}")
        node.ctl.ok(*pull, "--user", str(NOBODY))
        code, folder, err = stage.ctl("mount", f"gateway:{NAME}")
        text = stage.run("cat", f"{folder}/etc/motd")
        stage.ctl("unmount", "--all", "--lazy")
        started = stage.ctl("run", f"gateway:{NAME}", "sh", "-c", "read x </etc/motd; echo $x")

    assert (2, "") == refused[:2]
    assert (0, "hello\n") == (code, text), err
    assert (0, "hello") == (started[0], started[1].strip()), started


def script(path: Path, lines: str) -> Path:
    """A program of the site."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def test_killed_in_the_middle(
    place: Path, sections: Sections, tmp_path: Path, guarded: Upstream
) -> None:
    """A daemon that is killed in the middle of an import, with another one waiting, takes both up
    again; nothing of the first is published before, and nothing is left over. No password is in any
    file: whose import needs it, and does not ask again with it, is told so."""
    place.chmod(0o755)
    gate = tmp_path / "gate"
    examiner = script(tmp_path / "examiner", f"until [ -e {gate} ]; do sleep 0.05; done")
    sections = {**sections, "gateway": {"examiner": examiner, "workers": 1}}
    with daemon(place / "n", sections) as node:
        ann = person(place, node, "ann", 61001)
        for image in ("gzip", "zstd"):
            words = ("gateway", "pull", "--no-wait", "--creds", CREDS, f"{UP}/lib/{image}:1")
            assert (0, "") == ((ran := ann.ctl(*words)).code, ran.out), ran
        wait_for(lambda: [e["state"] for e in queue(node)] == ["EXAMINATION", "PENDING"])
        assert 2 == ann.ctl("gateway", "lookup", NAME).code
        assert 6 == (late := ann.ctl("gateway", "pull", "--timeout", "200ms", NAME)).code, late
        assert "goes on" in told_last(late.err)
        node.process.kill()
        node.process.wait()
    left = [path for path in node.folder.rglob("*") if path.is_file()]
    assert [] == [path for path in left if PASSWORD.encode() in path.read_bytes()]
    with daemon(place / "n", sections) as node:
        assert {"zstd", "gzip"} == {each["name"].split("/")[2][:4] for each in queue(node)}
        waiting = ann.ctl_begun("gateway", "pull", "--creds", CREDS, f"{UP}/lib/zstd:1")
        gate.touch()
        out, err = waiting.communicate(timeout=60)

        assert (0, f"{guarded.images.digest('zstd').partition(':')[2]}\n") == (
            waiting.returncode,
            out.decode(),
        ), err
        failed = queue(node)
        assert [("FAILURE", True)] == [
            (each["state"], "its memory only: pull again" in each["message"]) for each in failed
        ]
        assert 0 == ann.ctl("gateway", "pull", "--creds", CREDS, NAME).code
        assert ([], []) == (queue(node), list((node.root / "gateway/work").iterdir()))
        assert "Traceback" not in node.log


def test_what_goes_wrong_is_said(
    place: Path, sections: Sections, tmp_path: Path, start: Start
) -> None:
    """An image that the examiner refuses, or that cannot be converted, or for which the registry
    lets nobody in, ends in FAILURE with the reason in one line, with its exit code, and leaves
    nothing; a wrong password is no reason not to try the right one at once."""
    place.chmod(0o755)
    answers = tmp_path / "answers"
    answers.write_text('echo "$1 $2" >>"$0.seen"; ls "$1/etc"; echo "a setuid file: $1"; exit 3')
    examiner = script(tmp_path / "examiner", f". {answers}")
    fakes = tmp_path / "bin"
    fakes.mkdir()
    before = ("env", f"PATH={fakes}:{os.environ['PATH']}")
    gateway = {"examiner": examiner, "image_dir": tmp_path / "site"}
    (tmp_path / "site").mkdir()
    node = start({**sections, "gateway": gateway}, place / "n", before=before)
    ann = person(place, node, "ann", 61001)
    pull = ("gateway", "pull", "-q", NAME, "--creds")
    wrong = ann.ctl(*pull, f"{USER}:guess")
    refused = ann.ctl(*pull, CREDS)
    answers.write_text("exit 0")
    broken = script(fakes / "tar2sqfs", "echo no such luck >&2; exit 2")
    failed = ann.ctl(*pull, CREDS)

    assert (3, True) == (wrong.code, f"docker:{NAME}" in told(wrong)), wrong
    assert (3, True) == (refused.code, "status 3): a setuid file: /" in told(refused)), refused
    assert (1, True) == (failed.code, "tar2sqfs ended with status 2: no such luck" in told(failed))
    listed = queue(node)
    assert [("FAILURE", told(failed).partition(f"{NAME}: ")[2])] == [
        (each["state"], each["message"]) for each in listed
    ]
    left = [path for path in (node.root / "gateway").rglob("*") if path.is_file()]
    assert ([], []) == (left, os.listdir(tmp_path / "site"))
    broken.unlink()
    assert 0 == ann.ctl(*pull, CREDS).code
    assert [] == queue(node)


def test_a_file_is_handed_in(place: Path, sections: Sections, start: Start, images: Images) -> None:
    """import takes a squashfs or an archive, read by who runs it; it is theirs alone. Others may
    not, and what is no image is refused."""
    place.chmod(0o755)
    node = start({**sections, "gateway": {"import_users": ["61001"]}}, place / "n")
    ann, eve = person(place, node, "ann", 61001), person(place, node, "eve", 61002)
    archive = f"oci-archive:{ann.home / 'a.tar'}"
    Skopeo(place / "skopeo").copy(images.source("gzip"), f"{archive}:1")
    (ann.home / "tree").mkdir()
    (ann.home / "tree/data").write_bytes(b"data")
    packed = ann.home / "x.squashfs"
    command = ["mksquashfs", str(ann.home / "tree"), str(packed), "-quiet", "-no-progress"]
    subprocess.run(command, check=True, capture_output=True)
    for path in ann.home.rglob("*"):
        os.chown(path, 61001, 61001)
        path.chmod(0o700)
    (cut := ann.home / "cut").write_bytes(packed.read_bytes()[:200])
    cut.chmod(0o644)
    by_file = ann.ctl("gateway", "import", str(packed), "mine:1")
    assert f"{hashlib.sha256(packed.read_bytes()).hexdigest()}\n" == by_file.out, by_file
    by_archive = ann.ctl("gateway", "import", "-q", archive, "custom:app", "--group", "61009")
    assert f"{images.digest('gzip').partition(':')[2]}\n" == by_archive.out, by_archive
    shown = json.loads(ann.ctl("gateway", "images", "--format", "json").out)["images"]
    names = {each["names"][0]: (each["users"], each["groups"]) for each in shown}
    assert {"custom:mine:1": ([61001], []), "custom:app:latest": ([61001], [61001, 61009])} == names
    other = eve.home / "x.squashfs"
    other.write_bytes(packed.read_bytes())
    other.chmod(0o644)
    assert 3 == eve.ctl("gateway", "import", str(other), "mine:1").code
    assert 403 == eve.ask("POST", "/api/v1/gateway/import?image=x:1", "--data-binary", "x")[0]
    assert 2 == eve.ctl("gateway", "lookup", "custom:mine:1").code
    assert (1, True) == (
        (ran := ann.ctl("gateway", "import", "-q", str(ann.home / "cut"), "cut:1")).code,
        "of which" in told(ran),
    ), ran
    assert 64 == ann.ctl("gateway", "import", archive.partition(":")[2], "mine:2").code
    assert [] == list((node.root / "gateway/work").iterdir())


def test_an_archive_with_another_configuration(place: Path, start: Start, images: Images) -> None:
    """A configuration that is not the manifest's is no way to change what an image says."""
    place.chmod(0o755)
    node = start({"registries": {}}, place / "n")
    Skopeo(place / "skopeo").copy(images.source("gzip"), f"oci:{place / 'layout'}:1")
    manifest = read(place / "layout", images.digest("gzip"))
    config = place / "layout/blobs" / manifest["config"]["digest"].replace(":", "/")
    config.write_bytes(config.read_bytes().replace(b"/bin/sh", b"/bin/xx"))
    subprocess.run(["tar", "-C", place / "layout", "-cf", place / "a.tar", "."], check=True)
    ran = node.ctl("gateway", "import", "-q", f"oci-archive:{place / 'a.tar'}", "mine:1")

    assert (5, True) == (ran.code, "the configuration is not sha256:" in told(ran)), ran


def queue(node: Daemon) -> list[dict[str, Any]]:
    """What is under way, and what has failed."""
    found: list[dict[str, Any]] = node.ctl.json("gateway", "queue")["imports"]
    return found


def told_last(text: str) -> str:
    """The last line."""
    return text.splitlines()[-1]


def wait_for(claim: Callable[[], bool]) -> None:
    """Wait until this is so."""
    ends = time.monotonic() + 60
    while not claim():
        assert time.monotonic() < ends
        threading.Event().wait(0.05)
