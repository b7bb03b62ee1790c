"""Story: pushes that are killed or cut in the middle of a large blob, and go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registryd.remote.upload_rules import CHUNK
from tests.cli.test_copy import write_layout
from tests.fakes.endpoints import Sample, image
from tests.real.conftest import Start
from tests.real.registry import RealRegistry, open_registry
from tests.real.relay import Relay, nginx, relay
from tests.real.runtimes import Skopeo
from tests.real.stories import Ctl, Daemon, blobs_of

MIB = 2**20
#: One layer; the smaller one shows the same where nothing is lost but what was on its way.
LARGE, SMALL = 160 * MIB, 32 * MIB


def sample(size: int) -> Sample:
    """An image with one layer of this size."""
    return image(bytes(size - 8) + b"the end.")


def kill_in_the_middle(ctl: Ctl, link: Relay, *words: str, stop_at: int) -> None:
    """Begin a push, and kill it when so many bytes have passed."""
    link.stop_at = stop_at
    process = ctl.begin(*words)
    try:
        assert link.stopped.wait(120), process.stderr
    finally:
        process.kill()
        process.communicate()
    link.open()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """docker-registry 2.8."""
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def test_killed_push_goes_on_behind_a_proxy(
    registry: RealRegistry, tmp_path: Path, skopeo: Skopeo
) -> None:
    """docker-registry behind nginx that takes 20 MB at a time: chunks, and after kill -9 the rest.

    All in all little more than the blob is sent: the refused beginning (as much as the sockets on
    the way hold), and the chunk that was on its way.
    """
    large = sample(LARGE)
    layout = f"oci:{write_layout(tmp_path / 'layout', 'v1', large)}:v1"
    ctl = Ctl(tmp_path / "home")
    with nginx(tmp_path / "nginx", registry.name, body="20m") as front, relay(front) as link:
        name = f"{link.name}/team/large:1"
        words = ("push", "-q", "--plain-http", layout, name)
        kill_in_the_middle(ctl, link, *words, stop_at=LARGE // 2 + 2 * MIB)
        (record,) = (tmp_path / "home").rglob("uploads/*.json")
        assert 0o600 == record.stat().st_mode & 0o777

        assert f"{name}@{large.root.digest}\n" == ctl.ok(*words)

        assert link.sent <= LARGE + 2 * CHUNK
        assert not record.exists()
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.name}/team/large:1")
    assert json.loads(large.root.raw) == json.loads(raw)


@pytest.mark.parametrize("who", ["registryctl", "registryd"])
def test_killed_push_goes_on_where_the_registry_keeps_what_came(
    start: Start, tmp_path: Path, who: str
) -> None:
    """To a registryd goes one PUT; killed in the middle of it, the next process sends the rest.

    So does a daemon that was killed while it pushed what its cache holds.
    """
    small = sample(SMALL)
    layout = f"oci:{write_layout(tmp_path / 'layout', 'v1', small)}:v1"
    far = start({})
    with relay(far.address) as link:
        name = f"{link.name}/localhost/large:1"
        if who == "registryctl":
            ctl, words = Ctl(tmp_path / "home"), ("push", "-q", "--plain-http", layout, name)
            kill_in_the_middle(ctl, link, *words, stop_at=SMALL // 2)
        else:
            ctl, words = _pushing_daemon(start, link, layout, name)
        assert f"{name}@{small.root.digest}\n" == ctl.ok(*words)

        assert link.sent <= 1.1 * SMALL
    assert str(small.layers[-1].digest) in blobs_of(far.root)


def _pushing_daemon(
    start: Start, link: Relay, layout: str, name: str
) -> tuple[Ctl, tuple[str, ...]]:
    """A daemon that holds the image was killed while it pushed, and is there again."""
    sections = {"registries": {link.name: {"plain_http": True}}}
    near: Daemon = start(sections)
    near.ctl.ok("copy", "-q", layout, "cache:localhost/large:1")
    words = ("push", "-q", "localhost/large:1", name)
    link.stop_at = link.sent + SMALL // 2
    pushing = near.ctl.begin(*words)
    assert link.stopped.wait(120)
    near.process.kill()
    near.process.wait()
    pushing.communicate()
    link.open()
    return start(sections, near.folder).ctl, words


@pytest.mark.parametrize("kind", ["registryd", "docker-registry"])
def test_cut_connection_in_one_run(
    start: Start, registry: RealRegistry, tmp_path: Path, kind: str
) -> None:
    """A connection that is cut costs a registryd the bytes on their way; docker-registry 2.8 takes
    no session that was cut off, and gets the blob once more."""
    small = sample(SMALL)
    layout = f"oci:{write_layout(tmp_path / 'layout', 'v1', small)}:v1"
    own = kind == "registryd"
    with relay(start({}).address if own else registry.name) as link:
        name = f"{link.name}/localhost/cut:1"
        link.cut_at = SMALL // 2
        done = Ctl(tmp_path / "home").ok("push", "-q", "--plain-http", layout, name)

        assert f"{name}@{small.root.digest}\n" == done
        assert link.sent <= (1.1 if own else 1.7) * SMALL
