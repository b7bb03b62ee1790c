"""Images that have to be signed: pulled, copied and served when they are, and not otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.conftest import Ctl, Outcome
from tests.cli.conftest import ctl as ctl
from tests.cli.test_copy import ARM, DIGEST, write_layout
from tests.fakes.cosign import Signer, attach, payload_of
from tests.real.registry import RealRegistry, open_registry
from tests.real.stories import UP, Daemon, upstream_at


@dataclass(frozen=True)
class Place:
    """A registry, an image's layout, two signers of whom the configuration trusts the first."""

    registry: RealRegistry
    layout: Path
    trusted: Signer
    other: Signer
    ctl: Ctl

    def put(self, name: str) -> str:
        """Put the image there; its whole name."""
        whole = f"{self.registry.name}/{name}"
        root = str(self.ctl.home / "putting")
        done = self.ctl("push", f"oci:{self.layout}:v1", whole, "-q", "--root", root)
        assert done.code == 0, done.err
        return whole

    def sign(
        self,
        name: str,
        digest: str = DIGEST,
        *,
        signer: Signer | None = None,
        about: str = "",
        alter: Callable[[bytes], bytes] = lambda payload: payload,
    ) -> None:
        """Sign a digest as cosign does, with something wrong where a test wants it."""
        repository = name.partition(":")[0]
        payload = payload_of(f"{self.registry.name}/{repository}", about or digest)
        signature = (signer or self.trusted).sign(payload)
        attach(self.registry.name, repository, digest, (alter(payload), signature))

    def require(self, prefix: str, *keys: Path) -> None:
        """Have the user's configuration want signatures."""
        config = self.ctl.home / ".config/registryd/config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        listed = json.dumps([str(key) for key in keys or (self.trusted.public,)])
        with config.open("a") as file:
            file.write(f'[signatures."{prefix}"]\nkeys = {listed}\n')

    def pull(self, name: str, *more: str) -> Outcome:
        """Pull into a cache of the user's own."""
        return self.ctl("pull", name, "--root", str(self.ctl.home / "root"), *more)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def place(ctl: Ctl, tmp_path: Path, registry: RealRegistry) -> Place:
    keys = [Signer.make(tmp_path / f"{name}.pub") for name in ("trusted", "other")]
    return Place(registry, write_layout(tmp_path / "layout", "v1"), *keys, ctl)


def test_signed_and_unsigned(place: Place, registry: RealRegistry) -> None:
    """What is signed comes and says by whom; the rest does not, and names with no rule do."""
    signed, unsigned, free = (place.put(name) for name in ("s/a:1", "s/b:1", "sx/c:1"))
    place.require(f"{registry.name}/s", place.other.public, place.trusted.public)
    place.sign("s/a:1")
    pulled = place.pull(signed)
    refused = place.pull(unsigned)

    assert 0 == pulled.code, pulled.err
    assert f"{signed} is signed: verified by {place.trusted.public}" in pulled.words
    assert (3, "") == (refused.code, refused.out)
    assert 0 == place.pull(free).code
    (line,) = [line for line in refused.words if line.startswith("registryctl: ")]
    assert f"{registry.name}/s/b@{DIGEST} is not admitted: no signature by" in line
    assert f"{place.other.public}, {place.trusted.public}" in line


@pytest.mark.parametrize(
    "fault", ["other key", "altered", "other digest", "other type", "no key", "not a key", "rsa"]
)
def test_what_is_no_signature(
    place: Place, registry: RealRegistry, fault: str, tmp_path: Path
) -> None:
    """A wrong key, payload or digest, and a key file that cannot be used: each is a no."""
    name = f"f/{fault.replace(' ', '')}:1"
    whole = place.put(name)
    keys: list[Path] = []
    if fault == "other key":
        place.sign(name, signer=place.other)
    elif fault == "altered":
        place.sign(name, alter=lambda payload: payload.replace(b"null", b"{}"))
    elif fault == "other digest":
        place.sign(name, about=ARM)
    elif fault == "other type":
        payload = payload_of(registry.name, DIGEST, type="atomic container signature")
        repository = name.removesuffix(":1")
        attach(registry.name, repository, DIGEST, (payload, place.trusted.sign(payload)))
    else:
        place.sign(name)
        keys = [place.trusted.public, tmp_path / "key.pub"]
        if fault == "not a key":
            keys[1].write_text("no key")
        elif fault == "rsa":
            keys[1].write_bytes(rsa_key())
    place.require(f"{registry.name}/f", *keys)
    refused = place.pull(whole, "-q")

    assert (3, "") == (refused.code, refused.out)
    assert 1 == len(refused.words)
    assert not keys or str(keys[1]) in refused.err


def rsa_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    return (
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def test_what_was_cached_before(place: Place, registry: RealRegistry) -> None:
    """A rule counts for what is held already; a signature that comes later admits it."""
    whole = place.put("c/a:1")
    assert 0 == place.pull(whole, "-q").code
    place.require(f"{registry.name}/c")
    words = ("--root", str(place.ctl.home / "root"), "-q")

    assert 3 == place.pull(whole, "-q").code
    assert 3 == place.ctl("manifest", whole, *words).code
    assert 3 == place.ctl("copy", whole, f"oci:{place.ctl.home / 'out'}:x", "-q").code
    assert 3 == place.ctl("push", whole, f"{registry.name}/free/a:1", *words).code
    place.sign("c/a:1")
    assert 0 == place.ctl("manifest", whole, *words).code
    assert 0 == place.ctl("copy", whole, f"oci:{place.ctl.home / 'out'}:x", "-q").code
    assert 0 == place.ctl("push", whole, f"{registry.name}/free/a:1", *words).code


def test_of_an_index(place: Place, registry: RealRegistry) -> None:
    """The index's signature admits what it lists; one of a child admits that child alone."""
    whole, child = place.put("i/a:1"), place.put("i/b:1")
    place.require(f"{registry.name}/i")
    place.sign("i/a:1")
    place.sign("i/b:1", ARM)
    words = ("--root", str(place.ctl.home / "root"), "-q")

    assert 0 == place.pull(whole, "-q", "--platform", "linux/arm64").code
    assert 0 == place.ctl("manifest", f"{whole.removesuffix(':1')}@{ARM}", *words).code
    assert 3 == place.pull(child, "-q").code
    assert 0 == place.pull(f"{child.removesuffix(':1')}@{ARM}", "-q").code


# The daemon.

Start = Callable[..., Daemon]


def sections(place: Place, registry: RealRegistry) -> dict[str, dict[str, object]]:
    """A daemon that wants signatures of ``up.test/d``, and asks for tags anew each time."""
    signed = {f"{UP}/d": {"keys": [str(place.trusted.public)]}}
    registries = upstream_at(registry.url, tag_ttl="0s")["registries"]
    return {"registries": dict(registries), "signatures": signed}


def test_what_the_daemon_serves(place: Place, registry: RealRegistry, start: Start) -> None:
    """By tag and by digest: 403 DENIED with nothing of the image, until it is signed; then also
    what its index lists. A tag that moves on is judged anew."""
    place.put("d/a:1")
    node = start(sections(place, registry))
    paths = [f"/v2/{UP}/d/a/manifests/{target}" for target in ("1", DIGEST, ARM)]
    refused = [node.get(path) for path in paths]

    assert [403] * 3 == [status for status, _ in refused]
    for _, body in refused:
        (error,) = json.loads(body)["errors"]
        assert "DENIED" == error["code"]
        assert "is not admitted" in error["message"]
        assert b"layers" not in body
        assert b"mediaType" not in body
    assert 3 == node.ctl("pull", f"{UP}/d/a:1", "-q").code
    place.sign("d/a:1")
    assert [200] * 3 == [node.get(path)[0] for path in paths]
    signature = f"/v2/{UP}/d/a/manifests/{DIGEST.replace(':', '-')}.sig"
    assert 200 == node.get(signature)[0]
    exact = f"{registry.name}/d/a@{ARM}"
    root = str(place.ctl.home / "r2")
    moved = place.ctl("copy", exact, f"{registry.name}/d/a:1", "-q", "--root", root)
    assert 0 == moved.code, moved.err
    assert 200 == node.get(paths[0])[0]  # it is what the signed index lists
    place.put("d/b:1")
    assert 403 == node.get(f"/v2/{UP}/d/b/manifests/1")[0]


def test_without_the_registry(place: Place, tmp_path: Path) -> None:
    """A held image stays verifiable: its signature is held too. What is not held is refused."""
    with open_registry(tmp_path / "gone") as registry:
        there = Place(registry, place.layout, place.trusted, place.other, place.ctl)
        signed, unsigned = there.put("d/a:1"), there.put("e/b:1")
        there.sign("d/a:1")
        there.require(f"{registry.name}/d")
        assert [0, 0] == [there.pull(name, "-q").code for name in (signed, unsigned)]
    there.require(f"{registry.name}/e")
    root = ("--root", str(place.ctl.home / "root"), "-q")
    away = [
        place.ctl("manifest", f"{name}@{DIGEST}", *root)
        for name in (signed, signed.removesuffix(":1"), unsigned)
    ]

    assert [0, 0, 3] == [ran.code for ran in away]
    assert "its signature could not be had: " in away[2].err
