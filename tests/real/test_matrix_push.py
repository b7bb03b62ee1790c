"""Story: every runtime pushes to the node's own registry what it has pulled, and others get it."""

from __future__ import annotations

from pathlib import Path

from tests.real.conftest import Start, Upstream
from tests.real.pullers import PULLERS, Puller, Way, each_runtime
from tests.real.runtimes import Skopeo
from tests.real.scripted import IMAGE, NAME, before
from tests.real.stories import Daemon

#: These pack layers anew when they push, so that digests become others.
PACKING = {"podman", "buildah", "dockerd"}


def pushed(runtime: Puller, node: Daemon, name: str) -> str:
    """Push the image; the digest that it has in the node's own registry."""
    ran = runtime.push(IMAGE, f"{node.address}/localhost/{name}")
    assert 0 == ran.code, ran.err
    return node.ctl.ok("digest", f"localhost/{name}").strip()


@each_runtime
def test_what_was_pulled_is_pushed(
    everyones: Upstream, start: Start, skopeo: Skopeo, place: Path, tmp_path: Path, program: str
) -> None:
    """The image is in localhost/app, and others pull it; exact copies are not sent twice."""
    node = start(before(everyones.registry.url))
    with PULLERS[program](place / "own", Way(node.address)) as runtime:
        assert 0 == runtime.pull(IMAGE).code

        digest = pushed(runtime, node, "app:1")
        taken = node.metric("registryd_pushed_bytes_total")
        again = pushed(runtime, node, "app:2")

    assert digest == again
    if program not in PACKING:
        assert everyones.images.digest(NAME) == digest
        assert taken == node.metric("registryd_pushed_bytes_total")
    assert digest == skopeo.digest(f"docker://{node.address}/localhost/app:1")
    skopeo.copy(f"docker://{node.address}/localhost/app:1", f"oci:{tmp_path}/x:1")
