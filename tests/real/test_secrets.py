"""No secret is seen: not in a log, an error, an answer, a file of the cache or a process list."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.test_copy import write_layout
from tests.real.registry import JwtTokenServer, RealRegistry, basic_registry, token_registry
from tests.real.runtimes import Ran
from tests.real.stories import Ctl, Daemon, Sections, daemon, get, in_thread
from tests.remote.test_credential_helpers import make_keeper

#: Seconds between two looks at the command lines of all processes.
GLANCE = 0.005
#: Looks at each process that has begun meanwhile.
LOOKS = 20


@dataclass(frozen=True)
class World:
    """Two registries that want logins, a daemon, and everything that must not be seen."""

    by_password: RealRegistry
    by_token: RealRegistry
    tokens: JwtTokenServer
    node: Daemon
    secrets: list[bytes]
    seen: list[bytes] = field(default_factory=list)

    def hear(self, ran: Ran) -> Ran:
        """Keep what a command has said."""
        self.seen.append(ran.raw + ran.err.encode())
        return ran

    def found(self, where: dict[str, bytes]) -> list[tuple[str, str]]:
        """Which secrets are in these texts."""
        hidden = self.secrets + [token.encode() for token in self.tokens.issued]
        forms = [form for secret in hidden for form in forms_of(secret)]
        return [
            (place, form.decode())
            for place, text in where.items()
            for form in forms
            if form in text
        ]


def forms_of(secret: bytes) -> set[bytes]:
    """A secret as it is, in a URL, and in base64 after its user's name."""
    return {
        secret,
        quote(secret.decode(), safe="").encode(),
        base64.b64encode(b"ann:" + secret),
        base64.b64encode(b"<token>:" + secret),
    }


@contextmanager
def watched() -> Iterator[dict[str, bytes]]:
    """The command line of each process that runs meanwhile, by its number."""
    lines: dict[str, bytes] = {}
    ended = threading.Event()
    # A process says what it is when it begins, and once more when it becomes another program.
    looks = dict.fromkeys(filter(str.isdecimal, os.listdir("/proc")), LOOKS)

    def look() -> None:
        while not ended.wait(GLANCE):
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                if looks.get(pid, 0) >= LOOKS:
                    continue
                looks[pid] = looks.get(pid, 0) + 1
                with suppress(OSError):
                    lines[pid] = lines.get(pid, b"") + Path(f"/proc/{pid}/cmdline").read_bytes()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield lines
    finally:
        ended.set()
        watcher.join()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    password, refresh = (f"{name}-{secrets.token_hex(8)}+/%" for name in ("word", "refresh"))
    old = f"old-{secrets.token_hex(8)}"
    tokens = JwtTokenServer(tmp_path / "t", users={"ann": password}, anonymous=False)
    tokens.refresh = {refresh}
    (tmp_path / "password").write_text(password)
    with ExitStack() as stack:
        basic = stack.enter_context(basic_registry(tmp_path / "b", {"ann": password}))
        stack.enter_context(in_thread(tokens))
        token = stack.enter_context(token_registry(tmp_path / "t", tokens))
        own = {"username": "ann", "password_file": str(tmp_path / "password")}
        sections: Sections = {
            "daemon": {"log_level": "debug"},
            "registries": {"up.test": {"endpoint": token.url, "share_login": True, **own}},
        }
        node = stack.enter_context(daemon(tmp_path / "n", sections))
        hidden = [word.encode() for word in (password, refresh, old)]
        yield World(basic, token, tokens, node, hidden)


def test_no_secret_is_seen(world: World, tmp_path: Path) -> None:
    """Logins by file, helper and identity token, good and bad; everything that is said is read."""
    layout = write_layout(tmp_path / "layout", "v1")
    own = Ctl(tmp_path / "own", {"REGISTRYD_ROOT": str(tmp_path / "r")})
    with watched() as lines:
        by_file(world, own, layout)
        by_helper(world, world.node.ctl, layout, tmp_path)
        doors(world)
    said = {f"command {number}": text for number, text in enumerate(world.seen)}
    files = {
        str(path): path.read_bytes()
        for root in (world.node.root, tmp_path / "r")
        for path in root.rglob("*")
        if path.is_file()
    }
    log = {"log of the daemon": world.node.log.encode()}

    assert any(b"registryd.cli.main" in line for line in lines.values())
    assert len(world.tokens.issued) > 4
    assert " 200" in log["log of the daemon"].decode()
    assert [] == world.found(said | files | log | lines)


def by_file(world: World, ctl: Ctl, layout: Path) -> None:
    """An identity token in a file: log in, push, pull, copy, look; then stale ones, without use."""
    _, refresh, old = (secret.decode() for secret in world.secrets)
    file, name = ctl.home / "auth.json", f"{world.by_token.name}/team/app"
    at = ("--authfile", str(file), "-v")
    login = ("login", world.by_token.name, "-u", "<token>", "--password-stdin", *at)
    assert 3 == world.hear(ctl(*login, typed=f"{old}\n")).code
    assert 0 == world.hear(ctl(*login, typed=f"{refresh}\n")).code
    for words in (
        ("push", f"oci:{layout}:v1", f"{name}:1"),
        ("pull", f"{name}:1"),
        ("copy", f"{name}:1", f"{name}-two:1"),
        ("auth", "explain", f"{name}:1", "--check"),
    ):
        ran = world.hear(ctl(*words, *at))
        assert 0 == ran.code, ran.err
    entry = base64.b64encode(f"ann:{old}".encode()).decode()
    auths = {each.name: {"auth": entry} for each in (world.by_token, world.by_password)}
    file.write_text(json.dumps({"auths": auths}))
    for words in (
        ("pull", f"{name}/new:1"),
        ("copy", f"{name}:1", f"{world.by_password.name}/team/app:3"),
        ("auth", "explain", f"{world.by_password.name}/team/app:1", "--check", "--format", "json"),
    ):
        assert 3 == world.hear(ctl(*words, *at)).code
    variable = ctl.with_environ(DOCKER_AUTH_CONFIG=file.read_text()[:-1])
    assert 64 == world.hear(variable("tags", name, "-v")).code


def by_helper(world: World, ctl: Ctl, layout: Path, folder: Path) -> None:
    """A password that a helper keeps: it reaches that by stdin, and us, and then the daemon."""
    helper, file = make_keeper(folder), ctl.home / "config.json"
    file.write_text('{"credsStore": "fake"}')
    kept = ctl.with_environ(
        PATH=f"{helper.parent}:{os.environ['PATH']}", REGISTRY_AUTH_FILE=str(file)
    )
    registry, password = world.by_password.name, world.secrets[0].decode()
    name = f"{registry}/team/app:1"
    login = ("login", registry, "-u", "ann", "--password-stdin", "-v")
    assert 0 == world.hear(kept(*login, typed=f"{password}\n")).code
    for words in (("push", f"oci:{layout}:v1", name), ("pull", name), ("logout", registry)):
        ran = world.hear(kept(*words, "-v"))
        assert 0 == ran.code, ran.err
    assert 3 == world.hear(kept("tags", f"{registry}/team/app", "-v")).code


def doors(world: World) -> None:
    """What the daemon shows to everybody, after a pull with its own login."""
    node = world.node
    assert 200 == node.get("/v2/up.test/team/app/manifests/1")[0]
    paths = ("status", "images", "access", "cache/df", "cache/active", "limits", "nodes", "jobs")
    world.seen.extend(get(node.address, path)[1] for path in ("/metrics", "/v2/"))
    for path in paths:
        raw = over_socket(node.socket, f"/api/v1/{path}")
        world.seen.append(raw)


def over_socket(path: Path, target: str) -> bytes:
    """The daemon's answer to a GET on its unix socket, head and all."""
    with socket.socket(socket.AF_UNIX) as dialled:
        dialled.connect(str(path))
        dialled.sendall(f"GET {target} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: dialled.recv(65536), b""))
