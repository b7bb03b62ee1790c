"""Story: images are pushed to another registry's name through a daemon: they are there and here."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.held import HeldRegistry
from tests.fakes.registry import Repository
from tests.real.conftest import PASSWORD, USER, Start
from tests.real.images import Images, read
from tests.real.registry import (
    JwtTokenServer,
    RealRegistry,
    basic_registry,
    open_registry,
    token_registry,
)
from tests.real.runtimes import Containers, Ran, Skopeo
from tests.real.stories import UP, Daemon, Sections, arriving, blobs_of, in_thread
from tests.real.test_crashes import until
from tests.server.wire import noise

NAME = "new/app:1"
LAYER = noise(3_000_000)
CREDS = f"{USER}:{PASSWORD}"


@dataclass
class Behind:
    """A registry of this test alone, which can be stopped."""

    kind: str
    registry: RealRegistry
    stop: Callable[[], None]

    @property
    def sections(self) -> Sections:
        """A daemon's, which has no login of its own."""
        return {"registries": {UP: {"endpoint": self.registry.url}}}

    @property
    def repositories(self) -> list[str]:
        """What it has, by its files."""
        top = self.registry.root / "docker/registry/v2/repositories"
        return sorted(str(path.parent.relative_to(top)) for path in top.rglob("_manifests"))


@contextmanager
def behind(kind: str, folder: Path) -> Iterator[Behind]:
    """An empty registry: ``open`` to all, or by htpasswd (``basic``), or by token (``token``)."""
    with ExitStack() as stack:
        if kind == "token":
            tokens = JwtTokenServer(folder / "t", users={USER: PASSWORD}, anonymous=False)
            stack.enter_context(in_thread(tokens))
            registry = stack.enter_context(token_registry(folder, tokens))
        elif kind == "basic":
            registry = stack.enter_context(basic_registry(folder, {USER: PASSWORD}))
        else:
            registry = stack.enter_context(open_registry(folder))
        yield Behind(kind, registry, stack.close)


def logins(folder: Path, node: Daemon, creds: str) -> Path:
    """An auth.json with this login for the upstream as it is reached through the daemon."""
    path = folder / "auth.json"
    encoded = base64.b64encode(creds.encode()).decode()
    path.write_text(json.dumps({"auths": {f"{node.address}/{UP}": {"auth": encoded}}}))
    return path


def push_by(
    program: str, node: Daemon, images: Images, place: Path, *, creds: str = "", image: str = "gzip"
) -> Ran:
    """Push an image through the daemon, with a login from a file if there is one."""
    auth = ("--authfile", str(logins(place, node, creds))) if creds else ()
    source, target = images.source(image), node.mirror(NAME)
    if program == "skopeo":
        flags = ("--dest-tls-verify=false", "--preserve-digests", "--all", *auth)
        return Skopeo(place / "s").attempt("copy", *flags, source, target)
    containers = Containers(program, place / "c", {})
    name = containers("pull", source).strip().splitlines()[-1]
    return containers.attempt("push", "--tls-verify=false", *auth, name, target)


def read_by_skopeo(place: Path, image: str, creds: str = "", *, copy: bool = False) -> Ran:
    """The manifest of a name, or all of it (into a folder)."""
    skopeo = Skopeo(place / "r")
    if copy:
        flags = ("--src-tls-verify=false", *(("--src-creds", creds) if creds else ()))
        return skopeo.attempt("copy", *flags, "--all", image, f"dir:{place / 'taken'}")
    flags = ("--tls-verify=false", *(("--creds", creds) if creds else ()))
    return skopeo.attempt("inspect", "--no-tags", *flags, "--format", "{{.Digest}}", image)


@pytest.mark.parametrize("program", ["skopeo", "podman", "buildah"])
@pytest.mark.parametrize("kind", ["open", "basic", "token"])
def test_a_pushed_image_is_there_and_here(
    start: Start, images: Images, place: Path, kind: str, program: str
) -> None:
    """What a program pushes through the daemon is in the registry under the same digest, and when
    that is gone whole in the cache for its pusher; for nobody else if it was not for everybody."""
    with behind(kind, place / "up") as upstream:
        node = start(upstream.sections)
        creds = "" if kind == "open" else CREDS

        ran = push_by(program, node, images, place, creds=creds)

        assert ran.code == 0, ran.err + node.log
        digest = read_by_skopeo(place, f"docker://{upstream.registry.name}/{NAME}", creds).out
        assert digest.strip() == node.ctl.ok("digest", f"{UP}/{NAME}").strip()
        if program == "skopeo":
            assert images.digest("gzip") == digest.strip()
            assert images.blobs("gzip") == blobs_of(node.root)
        shown = node.ctl.json("images")["images"]
        assert [(f"{UP}/{NAME}", digest.strip())] == [(i["reference"], i["digest"]) for i in shown]
        stranger = read_by_skopeo(place, node.mirror(NAME))
        upstream.stop()
        again = read_by_skopeo(place, node.mirror(NAME), creds, copy=True)
        after = read_by_skopeo(place, node.mirror(NAME))

    assert again.code == 0, again.err + node.log
    assert (kind == "open") == (stranger.code == 0) == (after.code == 0)
    assert [] == arriving(node.root)


@pytest.mark.parametrize("program", ["skopeo", "podman", "buildah"])
@pytest.mark.parametrize("creds", ["", f"{USER}:wrong"], ids=["none", "wrong"])
@pytest.mark.parametrize("kind", ["basic", "token"])
def test_who_may_not_push_there_does_not_push_here(
    start: Start, images: Images, place: Path, kind: str, creds: str, program: str
) -> None:
    """Without the right login a push fails, and neither the registry nor the cache has any of it;
    that the daemon itself has a login there helps nobody."""
    password = place / "password"
    password.write_text(PASSWORD)
    with behind(kind, place / "up") as upstream:
        entry = upstream.sections["registries"][UP]
        own = {"username": USER, "password_file": str(password), "share_login": True}
        node = start({"registries": {UP: {**entry, **own}}})

        ran = push_by(program, node, images, place, creds=creds)

        assert ran.code != 0
        assert ([], set(), []) == (upstream.repositories, blobs_of(node.root), arriving(node.root))
        assert [] == node.ctl.json("images")["images"]
        assert push_by(program, node, images, place, creds=CREDS).code == 0, node.log


def test_an_index_is_pushed_whole(start: Start, images: Images, place: Path) -> None:
    """An index comes with all its platforms, as one image; pushed again it sends nothing."""
    with behind("token", place / "up") as upstream:
        node = start(upstream.sections)
        ran = push_by("skopeo", node, images, place, creds=CREDS, image="multi")
        assert ran.code == 0, ran.err + node.log
        pushed = node.metric("registryd_pushed_bytes_total")
        again = push_by("skopeo", node, images, place, creds=CREDS, image="multi")

        assert again.code == 0, again.err + node.log
        assert 0 < pushed == node.metric("registryd_pushed_bytes_total")
        found = read_by_skopeo(place, f"docker://{upstream.registry.name}/{NAME}", CREDS)
        assert images.digest("multi") == found.out.strip()
        assert images.blobs("multi") == blobs_of(node.root)
        assert [f"{UP}/{NAME}"] == [i["reference"] for i in node.ctl.json("images")["images"]]


def test_a_layer_of_another_repository_is_mounted(
    start: Start, images: Images, place: Path
) -> None:
    """skopeo copies from one repository to another through the daemon, and sends no layer (but a
    config, which it never mounts)."""
    config = read(images.layouts["gzip"], images.digest("gzip"))["config"]["size"]
    with behind("open", place / "up") as upstream:
        node = start(upstream.sections)
        assert push_by("skopeo", node, images, place).code == 0
        pushed = node.metric("registryd_pushed_bytes_total")
        Skopeo(place / "s").copy(node.mirror(NAME), node.mirror("other/app:2"))

        assert pushed + config == node.metric("registryd_pushed_bytes_total")
        found = read_by_skopeo(place, f"docker://{upstream.registry.name}/other/app:2")
        assert images.digest("gzip") == found.out.strip()


# A registry that makes it hard


@pytest.fixture
async def fake() -> AsyncIterator[HeldRegistry]:
    """A scripted registry."""
    async with HeldRegistry().serve() as server:
        yield server


def impatient(fake: HeldRegistry) -> Sections:
    """A daemon in front of it that tries once."""
    return {
        "registries": {UP: {"endpoint": fake.url}},
        "transfer": {"attempts": 1},
        "daemon": {"drain_timeout": "0s"},
    }


def largest(images: Images) -> str:
    """The digest of the image's largest layer."""
    layers = read(images.layouts["gzip"], images.digest("gzip"))["layers"]
    return str(max(layers, key=lambda layer: int(layer["size"]))["digest"])


@pytest.mark.parametrize("status", [403, 404, 405, 429, 500, 503, 0], ids=str)
@pytest.mark.parametrize("at", ["POST", "blob", "manifest"])
async def test_a_registry_that_refuses(
    fake: HeldRegistry, start: Start, images: Images, place: Path, at: str, status: int
) -> None:
    """Wherever its registry refuses, or breaks off (0), the push fails in a line that says so, no
    name is kept, and what was refused is not here; a second push makes it whole."""
    node = await asyncio.to_thread(start, impatient(fake))
    layer = largest(images).partition(":")[2]
    pattern = {"POST": "POST", "blob": f"PUT .*{layer}", "manifest": "PUT .*/manifests/"}[at]
    if status:
        later = {"Retry_After": "4000"} if status == 429 else {}
        fake.answer(pattern, status, times=None, **later)
    else:
        fake.drop(pattern, times=None)

    ran = await asyncio.to_thread(push_by, "skopeo", node, images, place)

    assert ran.code != 0
    assert 1 == len(ran.err.strip().splitlines()), ran.err
    assert [] == arriving(node.root)
    assert [] == (await asyncio.to_thread(node.ctl.json, "images"))["images"]
    held = await asyncio.to_thread(blobs_of, node.root)
    if at == "POST":
        assert set() == held
    elif at == "blob":
        assert largest(images) not in held
    else:
        assert images.digest("gzip") not in held
    assert "1" not in fake.repositories["new/app"].tags if fake.repositories else True
    if status != 429:  # that one has been told to stay away for a long time
        fake.faults.clear()
        again = await asyncio.to_thread(push_by, "skopeo", node, images, place)
        assert again.code == 0, again.err + node.log
        assert images.blobs("gzip") == await asyncio.to_thread(blobs_of, node.root)


# A daemon that ends in the middle


def send(node: Daemon, method: str, path: str, body: bytes = b"", length: int = -1) -> str:
    """A request, of whose body less may be sent than was announced; the answer's Location."""
    connection = http.client.HTTPConnection(node.address, timeout=60)
    try:
        connection.putrequest(method, path)
        connection.putheader("Content-Length", str(len(body) if length < 0 else length))
        connection.endheaders(body)
        return connection.getresponse().headers.get("Location", "")
    except (ConnectionError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def lies_in(folder: Path) -> bool:
    """Whether a file there has bytes."""
    return any(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("at", ["arriving", "uploading", "manifest"])
async def test_a_daemon_that_ends_in_the_middle(
    fake: HeldRegistry, start: Start, images: Images, place: Path, at: str, number: signal.Signals
) -> None:
    """Killed or stopped while an image comes in, or goes up, it knows nothing half afterwards: no
    name, nothing arriving, no layer that its registry did not take. The push done again makes it
    whole."""
    node = await asyncio.to_thread(start, impatient(fake))
    layer = largest(images)
    if at == "arriving":
        upload = await asyncio.to_thread(send, node, "POST", f"/v2/{UP}/new/app/blobs/uploads/")
        words: tuple[object, ...] = (send, node, "PATCH", upload, LAYER, 2 * len(LAYER))
        came = partial(lies_in, node.root / "ingest")
    else:
        pattern = "PUT .*/manifests/" if at == "manifest" else f"PUT .*{layer.partition(':')[2]}"
        fake.hold(pattern)
        words = (push_by, "skopeo", node, images, place)
        came = partial(fake.asked, pattern)
    pushing = asyncio.create_task(asyncio.to_thread(*words))  # type: ignore[arg-type]
    await until(lambda: bool(came()))
    node.process.send_signal(number)
    await asyncio.to_thread(node.process.wait)
    await pushing
    fake.release()

    again = await asyncio.to_thread(start, impatient(fake), node.folder)
    there = fake.repositories.get("new/app", Repository())
    given, _ = await asyncio.to_thread(again.get, f"/v2/{UP}/new/app/blobs/{layer}")
    assert ([], {}) == (arriving(again.root), there.manifests)
    assert [] == (await asyncio.to_thread(again.ctl.json, "images"))["images"]
    assert (given == 200) == (layer in there.blobs)
    ran = await asyncio.to_thread(push_by, "skopeo", again, images, place)
    assert ran.code == 0, ran.err + again.log
    taken = await asyncio.to_thread(read_by_skopeo, place, again.mirror(NAME), copy=True)
    assert taken.code == 0, taken.err + again.log
