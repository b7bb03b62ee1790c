"""Images and upstream registries that all stories read; each daemon is a test's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.images import Images, make_images
from tests.real.registry import (
    JwtTokenServer,
    RealRegistry,
    basic_registry,
    open_registry,
    token_registry,
)
from tests.real.runtimes import Skopeo
from tests.real.stories import UP, Daemon, Sections, daemon, in_thread

#: Who may write to the upstreams that want a login.
USER, PASSWORD = "ann", "s3cret word"


@dataclass(frozen=True)
class Upstream:
    """A registry that holds the images as ``lib/NAME:1``, and how a daemon reaches it."""

    kind: str
    registry: RealRegistry
    sections: Sections
    images: Images

    def name(self, image: str) -> str:
        """The image as it is called by those who pull it."""
        return f"{UP}/lib/{image}:1"


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The images, as layouts."""
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def skopeo(tmp_path_factory: pytest.TempPathFactory) -> Skopeo:
    """skopeo with a home of its own."""
    return Skopeo(tmp_path_factory.mktemp("skopeo"))


def fill(registry: RealRegistry, images: Images, skopeo: Skopeo, *flags: str) -> None:
    """Put the images there."""
    for name in images.layouts:
        target = f"docker://{registry.name}/lib/{name}:1"
        skopeo.copy(images.source(name), target, "--all", *flags)


@pytest.fixture(scope="session")
def everyones(
    tmp_path_factory: pytest.TempPathFactory, images: Images, skopeo: Skopeo
) -> Iterator[Upstream]:
    """A registry that everyone may read and write."""
    with open_registry(tmp_path_factory.mktemp("open")) as registry:
        fill(registry, images, skopeo)
        yield Upstream("open", registry, {"registries": {UP: {"endpoint": registry.url}}}, images)


@pytest.fixture(scope="session")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, images: Images, skopeo: Skopeo
) -> Iterator[Upstream]:
    """A registry that wants a password for everything (Basic)."""
    folder = tmp_path_factory.mktemp("htpasswd")
    password = folder / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    with basic_registry(folder, {USER: PASSWORD}) as registry:
        fill(registry, images, skopeo, f"--dest-creds={USER}:{PASSWORD}")
        entry = {
            "endpoint": registry.url,
            "username": USER,
            "password_file": str(password),
            "share_login": True,
        }
        yield Upstream("htpasswd", registry, {"registries": {UP: entry}}, images)


@pytest.fixture(scope="session")
def by_token(
    tmp_path_factory: pytest.TempPathFactory, images: Images, skopeo: Skopeo
) -> Iterator[Upstream]:
    """A registry that wants a token for everything; anybody gets one to read with."""
    folder = tmp_path_factory.mktemp("token")
    tokens = JwtTokenServer(folder / "tokens", users={USER: PASSWORD})
    with in_thread(tokens), token_registry(folder, tokens) as registry:
        fill(registry, images, skopeo, f"--dest-creds={USER}:{PASSWORD}")
        yield Upstream("token", registry, {"registries": {UP: {"endpoint": registry.url}}}, images)


@pytest.fixture(params=["everyones", "guarded", "by_token"])
def upstream(request: pytest.FixtureRequest) -> Upstream:
    """Each of the three."""
    found: Upstream = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: podman takes no long ones."""
    with tempfile.TemporaryDirectory(prefix="rd", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a daemon with these sections of configuration; all end with the test.

    None may have logged a traceback: what goes wrong outside is no error of ours.
    """
    begun: list[Daemon] = []
    with ExitStack() as stack:

        def begin(sections: Sections, folder: Path | None = None, **more: object) -> Daemon:
            place = folder or tmp_path / f"n{len(begun)}"
            node = stack.enter_context(daemon(place, sections, **more))  # type: ignore[arg-type]
            begun.append(node)
            return node

        yield begin
    for node in begun:
        assert "Traceback" not in node.log, node.log
