"""Story: four nodes want the same image as one file, and one of them makes it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cache.content import Digest
from registryd.cluster.placement import Placement, blob_key
from registryd.conversion.recipe import Recipe
from tests.images.layers.trees import layer, member
from tests.real.cluster import Cluster, Node, cluster, push_layers
from tests.real.conftest import Upstream
from tests.real.runtimes import need
from tests.real.stories import arriving, blob_reads, blobs_of


class Counted:
    """A tar2sqfs before the daemons' own, which counts itself."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._begun = folder / "begun"
        self._begun.touch()
        script = folder / "tar2sqfs"
        script.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] || echo >> {self._begun}\n'
            f'exec {need("tar2sqfs")} "$@"\n'
        )
        script.chmod(0o755)
        self.before = ("env", f"PATH={folder}:{os.environ['PATH']}")

    @property
    def begun(self) -> int:
        """How often it was started."""
        return len(self._begun.read_bytes())


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "programs")


@pytest.fixture
def four(tmp_path: Path, everyones: Upstream, counted: Counted) -> Iterator[Cluster]:
    """Four nodes that know one another by a list."""
    with cluster(tmp_path / "nodes", everyones.sections, 4, before=counted.before) as nodes:
        yield nodes


def first_of(nodes: Cluster, manifest: str, recipe: Recipe) -> Node:
    """The node that ranks first."""
    key = blob_key(Digest.of(f"{manifest} {recipe}".encode()))
    (name,) = Placement(node.id for node in nodes.nodes).ranked(key, 0, 1)
    return next(node for node in nodes.nodes if node.id == name)


def test_one_of_four_makes_it(four: Cluster, everyones: Upstream, counted: Counted) -> None:
    """One conversion for all; it lives on each node like one of its own, also when a job brings it
    there; a dead maker is replaced by one other node."""
    content = layer(member("noise", random.Random(9).randbytes(5 << 20)))
    push_layers(everyones.registry, "lib/noise", [content])
    name = everyones.name("noise")
    manifest = four[0].daemon.ctl.ok("digest", name).strip()

    def convert(node: Node, *words: str) -> dict[str, Any]:
        made: dict[str, Any] = node.daemon.ctl.json("convert", name, *words)
        return made

    made = four.at_once(convert)
    maker = first_of(four, manifest, Recipe())

    assert 1 == counted.begun, four.logs()
    assert 1 == len({each["blob"] for each in made})
    assert [node is maker for node in four.nodes] == [each["made"] for each in made]
    assert made[0]["blob"] not in blob_reads(everyones.registry)
    for node in four.nodes:
        assert 1 == node.daemon.metric("registryd_conversions_total")
        assert made[0]["blob"] in blobs_of(node.daemon.root)
        assert [] == arriving(node.daemon.root)
        assert not convert(node)["made"]
    one = next(node for node in four.nodes if node is not maker)
    one.daemon.ctl.ok("rmi", name)
    assert set() == blobs_of(one.daemon.root)
    assert not convert(one)["made"]
    assert 1 == counted.begun

    one.daemon.ctl.ok(
        "prefetch", name, "--all", "--wait", "--convert", "squashfs", "--compat", "gzip"
    )
    ahead = [convert(node, "--compat", "gzip") for node in four.nodes]
    assert (2, [False] * 4) == (counted.begun, [each["made"] for each in ahead]), four.logs()

    first_of(four, manifest, Recipe(compressor="gzip")).kill()
    left = [node for node in four.nodes if node.daemon.process.returncode is None]
    four.at_once(lambda node: node.daemon.ctl.ok("rmi", name), left)
    made = four.at_once(lambda node: convert(node, "--compat", "gzip"), left)

    assert {ahead[0]["blob"]} == {each["blob"] for each in made}
    assert (3, 1) == (counted.begun, sum(each["made"] for each in made)), four.logs()
