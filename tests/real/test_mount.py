"""Story: an image of the node's cache as a folder, for root and for an ordinary user."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mounts.stage import NOBODY, Stage, open_stage
from tests.real.conftest import Start, Upstream
from tests.real.stories import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces with a fuse")


@pytest.fixture(params=[0, NOBODY], ids=["root", "user"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Where root, and where an ordinary user mounts."""
    with open_stage(request.param) as opened:
        yield opened
        opened.ctl("unmount", "--all", "--lazy")


def ask(stage: Stage, node: Daemon, *words: str | Path) -> tuple[int, str, str]:
    """registryctl through the daemon."""
    stage.environ["REGISTRYD_SOCKET"] = str(node.socket)
    return stage.ctl(*words)


def test_an_image_is_a_folder_for_whoever_may_read_it(
    stage: Stage, place: Path, start: Start, everyones: Upstream
) -> None:
    """One squashfs is made and mounted by descriptor: the user has no path into the cache. It is
    mounted still when the image has left the cache, and the daemon has ended."""
    place.chmod(0o755)
    node = start(everyones.sections, place / "n")
    name = everyones.name("gzip")
    done = json.loads(ask(stage, node, "mount", name, "--format", "json")[1])
    twice = ask(stage, node, "mount", name)
    blob = node.ctl.json("convert", name)
    path = node.root / "blobs" / blob["blob"].replace(":", "/")
    closed = stage.run("head", "-c4", path)
    (mount,) = json.loads(ask(stage, node, "mount", "--format", "json")[1])["mounts"]
    node.ctl.ok("rmi", name)
    text = stage.run("cat", f"{done['folder']}/etc/motd")
    ends = [ask(stage, node, "unmount", name)[1] for _ in range(2)]

    assert (name, 1) == (done["image"], done["references"])
    assert (0, done["folder"]) == twice[:2]
    assert (done["digest"], False) == (blob["digest"], blob["made"])
    assert ("hsqs" != closed) == bool(stage.user)
    assert (name, blob["blob"], 2) == (mount["image"], mount["blob"], mount["references"])
    assert "hello\n" == text
    assert ["", done["folder"]] == ends
    assert not path.exists()
    assert [] == stage.table() == stage.entries()


def test_who_may_not_read_it_mounts_nothing(place: Path, start: Start, guarded: Upstream) -> None:
    """A user whom its registry does not let in is refused, though the node holds it converted."""
    place.chmod(0o755)
    registries = {"up.test": {"endpoint": guarded.registry.url}}
    node = start({"registries": registries}, place / "n")
    name = guarded.name("gzip")
    node.ctl.ok("convert", name, "--creds", "ann:s3cret word")
    with open_stage(NOBODY) as stage:
        code, out, err = ask(stage, node, "mount", name)
        left = stage.table()

    assert (3, "", []) == (code, out, left), err
    assert 1 == len(err.splitlines())
