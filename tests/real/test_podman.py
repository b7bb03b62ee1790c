"""Story: podman and buildah pull through the mirror, as their registries.conf says.

What every runtime does is in test_matrix; here is what these two have of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.conftest import Start, Upstream
from tests.real.images import Images
from tests.real.runtimes import Containers, need
from tests.real.scripted import IMAGE, TRANSFER, before, largest_layer, scripted
from tests.real.stories import UP, Daemon, answers, in_thread


def runtime(program: str, folder: Path, node: Daemon) -> Containers:
    """A runtime with empty storage that has the daemon as the mirror of the upstream."""
    return Containers(program, folder, {UP: f"{node.address}/{UP}"})


@pytest.mark.parametrize("program", ["podman", "buildah"])
@pytest.mark.parametrize("name", ["zstd", "multi"])
def test_zstd_layers_and_indexes(
    everyones: Upstream, start: Start, place: Path, program: str, name: str
) -> None:
    """An image with zstd layers, and the one of an index that fits the machine, can be pulled."""
    node = start(everyones.sections)
    own = runtime(program, place / "own", node)

    own("pull", everyones.name(name))

    assert f"{UP}/lib/{name}" in own("images")


def test_a_held_image_needs_no_upstream(everyones: Upstream, start: Start, place: Path) -> None:
    """Within the time to live of its tag, a held image is pulled without one question upstream."""
    node = start(everyones.sections)
    node.ctl.ok("pull", everyones.name("gzip"))
    before = len(answers(everyones.registry))

    runtime("podman", place / "own", node)("pull", everyones.name("gzip"))

    paths = [path for _, path, _ in answers(everyones.registry)[before:]]
    assert [] == [path for path in paths if not path.startswith("/v2/?seen=")]


def test_the_files_of_the_image_arrive(everyones: Upstream, start: Start, place: Path) -> None:
    """The layers are unpacked to the root that was packed: its shell, its data, its text."""
    node = start(everyones.sections)
    own = runtime("buildah", place / "own", node)

    container = own("from", everyones.name("zstd")).strip()

    root = Path(own("mount", container).strip())
    assert b"hello\n" == (root / "etc/motd").read_bytes()
    assert Path(need("busybox")).read_bytes() == (root / "bin/sh").read_bytes()


def test_the_mirror_names_what_it_lacks(everyones: Upstream, start: Start, place: Path) -> None:
    """A tag that upstream does not have fails the pull, and takes no room in the cache."""
    node = start(everyones.sections)

    ran = runtime("podman", place / "own", node).attempt("pull", f"{UP}/lib/gzip:none")

    assert ran.code != 0
    assert 0 == node.metric("registryd_cache_blobs")


@pytest.mark.parametrize("program", ["podman", "buildah"])
def test_what_could_not_be_had_is_not_promised_again(
    start: Start, images: Images, place: Path, program: str
) -> None:
    """A blob that never came whole fails a pull; the next one is sent past us by its manifest."""
    broken, whole = scripted(images), scripted(images)
    layer, size = largest_layer(images)
    cuts = iter([size // 2])
    broken.change(f"GET .*{layer}", lambda answer: setattr(answer, "cut", next(cuts, 0)))
    with in_thread(broken), in_thread(whole):
        node = start(before(broken.url, transfer=TRANSFER))
        mirror, origin = {UP: f"{node.address}/{UP}"}, {UP: whole.name}
        own = Containers(program, place / "own", mirror, origin)
        first = own.attempt("pull", f"{UP}/{IMAGE}")
        second = own.attempt("pull", f"{UP}/{IMAGE}")

    assert 0 == second.code, (first.err, second.err)
