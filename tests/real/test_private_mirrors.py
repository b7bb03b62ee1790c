"""Story: runtimes pull private images through the daemon with credentials of their own.

The daemon has no login. What a runtime has for the mirror reaches the registry by way of the
daemon's token realm; a runtime that has none gets nothing, whatever is cached for others.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import PASSWORD, USER, Start, Upstream, fill
from tests.real.images import Images
from tests.real.pullers import ByContainerd, ByContainers, BySkopeo, Puller, Way
from tests.real.registry import JwtTokenServer, token_registry
from tests.real.runtimes import (
    NOBODY,
    Containers,
    Ran,
    Skopeo,
    attempt,
    containerd,
    hosts_file,
    plain_environ,
    registries_conf,
)
from tests.real.scripted import IMAGE, NAME
from tests.real.stories import UP, Daemon, blob_reads, blobs_of, in_thread

PROGRAMS = ("podman", "buildah", "skopeo", "containerd")
ANN, WRONG = (USER, PASSWORD), (USER, "a guess")

each_runtime = pytest.mark.parametrize("program", PROGRAMS)


@pytest.fixture(scope="session")
def by_private_token(
    tmp_path_factory: pytest.TempPathFactory, images: Images, skopeo: Skopeo
) -> Iterator[Upstream]:
    """A registry that wants a token for everything, and whose token server knows nobody but ann."""
    folder = tmp_path_factory.mktemp("private-token")
    tokens = JwtTokenServer(folder / "tokens", users={USER: PASSWORD}, anonymous=False)
    with in_thread(tokens), token_registry(folder, tokens) as registry:
        fill(registry, images, skopeo, f"--dest-creds={USER}:{PASSWORD}")
        yield Upstream("private token", registry, {}, images)


@pytest.fixture(params=["guarded", "by_private_token"])
def private(request: pytest.FixtureRequest) -> Upstream:
    """A registry that shows nothing to anybody without a login: by password, or by token."""
    found: Upstream = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def node(private: Upstream, start: Start) -> Daemon:
    """A daemon that has no login."""
    return start({"registries": {UP: {"endpoint": private.registry.url}}})


def authfile(folder: Path, node: Daemon, login: tuple[str, str] | None) -> Path:
    """An auth.json with a login for the mirror's path of the registry, as its documents say."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "auth.json"
    auth = base64.b64encode(":".join(login or ()).encode()).decode()
    path.write_text(
        json.dumps({"auths": {f"{node.address}/{UP}": {"auth": auth}} if login else {}})
    )
    return path


@dataclass(frozen=True)
class SkopeoWith(BySkopeo):
    """skopeo with a credentials file."""

    authfile: Path = Path()

    def pull(self, image: str) -> Ran:
        conf = registries_conf(self.folder, {UP: f"{self.way.mirror}/{UP}"}, {UP: NOBODY})
        words = ["skopeo", "--insecure-policy", "--registries-conf", str(conf), "copy"]
        words += ["--src-authfile", str(self.authfile), f"docker://{UP}/{image}"]
        return attempt([*words, f"dir:{self._image}"], plain_environ(self.folder))


@contextmanager
def runtime(
    program: str, folder: Path, node: Daemon, login: tuple[str, str] | None
) -> Iterator[Puller]:
    """An empty runtime that has this login for the mirror, and no way past it."""
    if program == "containerd":
        with containerd(folder / "c") as running:
            hosts = hosts_file(folder / "hosts", UP, f"http://{node.address}")
            yield ByContainerd(running, hosts, login)
    elif program == "skopeo":
        yield SkopeoWith(folder, Way(node.address), authfile=authfile(folder, node, login))
    else:
        mirrored = Containers(program, folder, {UP: f"{node.address}/{UP}"}, {UP: NOBODY})
        yield ByContainers(mirrored, authfile(folder, node, login))


def pulled(
    program: str, folder: Path, node: Daemon, images: Images, login: tuple[str, str] | None
) -> tuple[Ran, bool]:
    """How a pull ended, and whether the runtime has the whole image."""
    with runtime(program, folder, node, login) as own:
        ran = own.pull(IMAGE)
        return ran, ran.code == 0 and own.holds(images)


@each_runtime
def test_a_private_image_comes_with_its_login(
    private: Upstream, node: Daemon, place: Path, images: Images, program: str
) -> None:
    """With a login for the mirror the image is pulled, cold and warm, and its registry sends each
    blob once; whoever has none, or a wrong one, gets nothing: before, after, and of the same
    runtime."""
    reads = blob_reads(private.registry)
    early, _ = pulled(program, place / "early", node, images, None)
    assert 0 != early.code
    assert set() == blobs_of(node.root)

    for name in ("cold", "warm"):
        ran, whole = pulled(program, place / name, node, images, ANN)
        assert 0 == ran.code, ran.err
        assert whole

    layers = images.blobs(NAME) - {images.digest(NAME)}
    assert dict.fromkeys(layers, 1) == dict(blob_reads(private.registry) - reads)
    for name, login in (("nobody", None), ("wrong", WRONG)):
        ran, _ = pulled(program, place / name, node, images, login)
        assert 0 != ran.code
        assert "user=login:" in node.log
    assert dict.fromkeys(layers, 1) == dict(blob_reads(private.registry) - reads)
    assert PASSWORD not in node.log


@each_runtime
@pytest.mark.parametrize("kind", ["everyones", "by_token"])
def test_a_public_image_needs_no_login(
    request: pytest.FixtureRequest, start: Start, place: Path, images: Images,
    program: str, kind: str,
) -> None:  # fmt: skip
    """The question in the answer to a ping keeps nobody without a login from a public image."""
    upstream: Upstream = request.getfixturevalue(kind)
    node = start({"registries": {UP: {"endpoint": upstream.registry.url}}})

    ran, whole = pulled(program, place / "own", node, images, None)

    assert 0 == ran.code, ran.err
    assert whole


def test_a_login_to_the_daemon_is_not_tried(private: Upstream, node: Daemon, place: Path) -> None:
    """``skopeo login`` (podman's is the same) asks the daemon, which has no registry to try the
    password at: it keeps a wrong one as well, and the pull says what it is worth."""
    home = place / "home"
    file = ("--authfile", str(home / "auth.json"))
    wrong = ("--username", USER, "--password", "a guess", "--tls-verify=false")
    logged_in = attempt(["skopeo", "login", *file, *wrong, node.address], plain_environ(home))
    pull = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--src-authfile",
            str(home / "auth.json"), node.mirror(IMAGE), f"dir:{home}/image"]  # fmt: skip

    assert 0 == logged_in.code, logged_in.err
    assert 0 != attempt(pull, plain_environ(home)).code
