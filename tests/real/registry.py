"""Debian's docker-registry on a free loopback port: open, with htpasswd, or with tokens.

Each ends its own process and nothing else. Where the program is missing, the test fails.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from tests.fakes.certificates import Identity, make_identity
from tests.fakes.http import Reply, reply
from tests.fakes.tokens import FakeTokenServer

#: Seconds in which the registry must have begun to listen, on a busy machine too.
START_LIMIT = 30.0
#: Another process may take the port between our choice and the registry's bind.
START_TRIES = 3


def need(program: str) -> str:
    """The path of a program that a test cannot do without."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"{program} is not installed (Debian: apt install {_PACKAGES[program]})")
    return found


_PACKAGES = {"docker-registry": "docker-registry", "htpasswd": "apache2-utils"}


@dataclass
class RealRegistry:
    """A running registry: its name in references, where it keeps things, what it has said."""

    name: str
    root: Path
    log: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.name}"


@contextmanager
def open_registry(
    folder: Path, name: str = "", tls: dict[str, object] | None = None
) -> Iterator[RealRegistry]:
    """A registry that everyone may read and write; ``name`` is that of one that was here before.

    ``tls``: its section of that name.
    """
    with _run(folder, {}, name, tls) as registry:
        yield registry


@contextmanager
def basic_registry(folder: Path, users: dict[str, str]) -> Iterator[RealRegistry]:
    """A registry that wants a password (Basic, bcrypt by htpasswd)."""
    program = need("htpasswd")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        subprocess.run(
            [program, "-Bbn", user, password], check=True, capture_output=True, text=True
        ).stdout.strip()
        for user, password in users.items()
    ]
    file = folder / "htpasswd"
    file.write_text("\n".join(lines) + "\n")
    with _run(folder, {"htpasswd": {"realm": "real", "path": str(file)}}) as registry:
        yield registry


@contextmanager
def token_registry(folder: Path, server: JwtTokenServer) -> Iterator[RealRegistry]:
    """A registry that takes the tokens of this server, which must be listening."""
    auth = {
        "token": {
            "realm": f"{server.url}/token",
            "service": server.service,
            "issuer": server.issuer,
            "rootcertbundle": str(server.identity.cert_file),
        }
    }
    with _run(folder, auth) as registry:
        yield registry


class JwtTokenServer(FakeTokenServer):
    """A token server whose tokens a real registry believes: JSON web tokens, RS256."""

    service = "real registry"
    issuer = "registryd tests"

    def __init__(
        self, folder: Path, *, users: dict[str, str] | None = None, anonymous: bool = True
    ) -> None:
        super().__init__(users=users, anonymous=anonymous)
        folder.mkdir(parents=True, exist_ok=True)
        self.identity = make_identity(folder, "tokens")

    def _issue(self, way: str, wanted: tuple[str, ...], granted: list[str]) -> Reply:
        self.counts[way] += 1
        self.scopes.append(wanted)
        token = sign(self.identity, self._claims(granted))
        self.issued[token] = set(granted)
        body = {"token": token} | self.members
        return reply(200, json.dumps(body), Content_Type="application/json")

    def _claims(self, granted: list[str]) -> dict[str, object]:
        access = []
        for scope in granted:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        return {
            "iss": self.issuer,
            "aud": self.service,
            "sub": "",
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
            "jti": f"{sum(self.counts.values())}",
            "access": access,
        }


def sign(identity: Identity, claims: dict[str, object]) -> str:
    """A JSON web token with the key id that docker-registry 2.8 knows its certificates by."""
    header = {"typ": "JWT", "alg": "RS256", "kid": key_id(identity)}
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
    signed = b".".join(_base64(part) for part in parts)
    signature = identity.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + _base64(signature)).decode()


def key_id(identity: Identity) -> str:
    """30 bytes of the public key's hash, in base32, in groups of four."""
    public = identity.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = base64.b32encode(hashlib.sha256(public).digest()[:30]).decode()
    return ":".join(text[at : at + 4] for at in range(0, len(text), 4))


def _base64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


@contextmanager
def _run(
    folder: Path,
    auth: dict[str, object],
    name: str = "",
    tls: dict[str, object] | None = None,
) -> Iterator[RealRegistry]:
    program = need("docker-registry")
    root = folder / "registry"
    root.mkdir(parents=True, exist_ok=True)
    for tries_left in reversed(range(START_TRIES)):
        registry = RealRegistry(name or f"127.0.0.1:{_free_port()}", root)
        config = folder / "registry.yml"
        config.write_text(json.dumps(_config(registry, auth, tls)))
        process = subprocess.Popen(
            [program, "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # What is set for the tests is not for the registry, which reads REGISTRY_*.
            env={"PATH": "/usr/bin:/bin"},
        )
        listening = threading.Event()
        reader = threading.Thread(target=_read_log, args=(process, registry, listening))
        reader.start()
        try:
            if _wait(process, listening):
                yield registry
                return
        finally:
            process.terminate()
            process.wait()
            reader.join()
            assert process.stderr is not None
            process.stderr.close()
        if not tries_left:
            pytest.fail("docker-registry did not start:\n" + "".join(registry.log[-5:]))


def _config(
    registry: RealRegistry, auth: dict[str, object], tls: dict[str, object] | None
) -> dict[str, object]:
    """JSON is YAML too."""
    return {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(registry.root)},
            "delete": {"enabled": True},
        },
        "http": {"addr": registry.name, **({"tls": tls} if tls else {})},
    } | ({"auth": auth} if auth else {})


def _read_log(
    process: subprocess.Popen[str], registry: RealRegistry, listening: threading.Event
) -> None:
    """Read what the process says until it ends, so that it never waits for us."""
    assert process.stderr is not None
    for line in process.stderr:
        registry.log.append(line)
        if "listening on" in line:
            listening.set()
    listening.set()


def _wait(process: subprocess.Popen[str], listening: threading.Event) -> bool:
    return listening.wait(START_LIMIT) and process.poll() is None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
