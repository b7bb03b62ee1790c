"""Story: what people get wrong, and registries that refuse: one line, and the right exit code."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.conftest import USER, Start, Upstream
from tests.real.runtimes import Ran, attempt, module, plain_environ
from tests.real.stories import UP, Ctl, arriving, blobs_of, told, toml

IMPATIENT = {"attempts": 1, "connect_timeout": "2s"}


@pytest.fixture(params=["daemon", "alone"])
def ctl(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Iterator[Ctl]:
    """registryctl with a daemon and without; nothing may be left in either cache."""
    if request.param == "daemon":
        node = start({"transfer": IMPATIENT})
        yield node.ctl
        root = node.root
    else:
        root = tmp_path / "root"
        yield Ctl(tmp_path / "home", {"REGISTRYD_ROOT": str(root)})
    if root.exists():
        assert (set(), []) == (blobs_of(root), arriving(root))


@pytest.mark.parametrize(
    "words",
    [
        ("pull", "UP.test/Big:1"),
        ("pull", "up.test/a@sha256:123"),
        ("pull", "up.test/a:b:c"),
        ("pull", "up.test/../../etc:1"),
        ("pull", ""),
        ("pull", "a\nb"),
        ("pull",),
        ("pull", "a", "--platform", "linux"),
        ("pull", "a", "--no-such-flag"),
        ("pull", "a", "-o", "up.test/a"),
        ("copy", "docker-daemon:x", "dir:y"),
        ("tags", "up.test/a:1"),
        ("push", "oci:nowhere"),
        ("nonsense",),
        ("cache", "nonsense"),
        (),
    ],
)
def test_wrong_usage_is_64(ctl: Ctl, words: tuple[str, ...]) -> None:
    """What cannot be meant is refused in one line before anything is done."""
    ran = ctl(*words)

    assert 64 == ran.code, ran
    told(ran)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[cache]\nrot = '/x'\n", "cache.rot"),
        ("[transfer]\nrange_size = 'big'\n", "transfer.range_size"),
        ('[registries."up.test"]\nendpoint = "ftp://x"\n', "endpoint"),
        ("[daemon\n", "TOML"),
    ],
)
def test_a_wrong_configuration_is_64(tmp_path: Path, text: str, named: str) -> None:
    """The daemon and the program alone name the file and the key, in one line."""
    config = tmp_path / "home" / ".config" / "registryd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(text)
    daemon = module("registryd.daemon", "--config", str(config))

    refused = attempt(daemon, plain_environ(tmp_path / "home"))
    checked = attempt([*daemon, "--check"], plain_environ(tmp_path / "home"))
    alone = Ctl(tmp_path / "home", {"REGISTRYD_ROOT": str(tmp_path / "root")})("images")

    for ran in (refused, checked, alone):
        assert 64 == ran.code, ran
        assert 1 == len(ran.err.splitlines()), ran.err
        assert str(config) in ran.err
        assert named in ran.err


def test_a_registry_that_is_not_there_is_6(ctl: Ctl) -> None:
    """Nobody listens: the line names the host."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{closed.getsockname()[1]}"
        ran = ctl("pull", "-q", f"{host}/a:1")

    assert 6 == ran.code, ran
    assert host in told(ran)


def test_a_host_without_an_address_is_6(ctl: Ctl) -> None:
    """A name that does not resolve is told as such."""
    ran = ctl("pull", "-q", "no-such-host.invalid/a:1")

    assert 6 == ran.code, ran
    assert "no-such-host.invalid" in told(ran)


def test_a_wrong_password_is_3(start: Start, tmp_path: Path, guarded: Upstream) -> None:
    """No password and a wrong one are refused by every command that asks the registry."""
    sections = {"registries": {UP: {"endpoint": guarded.registry.url}}}
    node = start(sections)
    config = tmp_path / "home" / ".config" / "registryd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(toml(sections))
    alone = Ctl(tmp_path / "home", {"REGISTRYD_ROOT": str(tmp_path / "root")})

    def refused(ran: Ran) -> bool:
        return ran.code == 3 and UP in told(ran)

    name = guarded.name("gzip")
    for ctl in (node.ctl, alone):
        for creds in ((), ("--creds", f"{USER}:wrong"), ("--creds", "nobody:x"), ("--no-creds",)):
            assert refused(ctl("pull", "-q", *creds, name))
        assert refused(ctl("digest", name))
        assert refused(ctl("tags", f"{UP}/lib/gzip"))
    assert set() == blobs_of(node.root) == blobs_of(tmp_path / "root")


def test_a_registry_that_is_not_allowed_is_3(start: Start, everyones: Upstream) -> None:
    """What [access] does not name is not dialled, and the line says where to change that."""
    node = start({**everyones.sections, "access": {"allow": ["other.test"]}})

    ran = node.ctl("pull", "-q", everyones.name("gzip"))

    assert 3 == ran.code, ran
    assert "allow" in told(ran)


def test_no_daemon_on_a_named_socket_is_6(tmp_path: Path) -> None:
    """Who names a socket wants that daemon and no other."""
    ran = Ctl(tmp_path)("--socket", str(tmp_path / "none.sock"), "images")

    assert 6 == ran.code
    assert "none.sock" in told(ran)
