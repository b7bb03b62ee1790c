"""Identities as files: whole, private, and never over others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cache.errors import DiskFull
from registryd.cluster.errors import IdentityUnusable, file_faults
from registryd.cluster.identity import Authority, certificate_pem, key_pem
from registryd.cluster.identity_files import (
    IdentityFiles,
    describe,
    read_authority,
    write_authority,
    write_identity,
)
from tests.fakes.members import NOW

HPC = Authority.make("hpc", now=NOW)


@pytest.fixture(params=[0o000, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who may read what does not depend on the caller's umask."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Every path in and with a folder, and its mode."""
    paths = [folder, *folder.rglob("*")]
    return {
        str(path.relative_to(folder)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in paths
    }


@pytest.mark.usefixtures("umask")
def test_authority(tmp_path: Path) -> None:
    """A private folder with certificate and key, and room for nodes; it is read back whole."""
    folder = tmp_path / "ca"
    write_authority(folder, HPC)
    found = read_authority(folder)

    assert {".": "700", "ca.pem": "644", "ca.key": "600", "nodes": "700"} == modes(folder)
    assert ["ca"] == os.listdir(tmp_path)
    assert ("hpc", HPC.certificate) == (found.cluster, found.certificate)
    assert HPC.key.private_numbers() == found.key.private_numbers()


@pytest.mark.usefixtures("umask")
def test_node(tmp_path: Path) -> None:
    """A private folder with what a node needs, and without the authority's key."""
    identity = HPC.issue("n1", ["10.0.0.1"], now=NOW)
    files = write_identity(tmp_path / "n1", identity, HPC)

    assert IdentityFiles.within(tmp_path / "n1") == files
    assert {".": "700", "ca.pem": "644", "cert.pem": "644", "key.pem": "600"} == modes(
        tmp_path / "n1"
    )
    assert key_pem(identity.key) == files.key.read_bytes()
    assert certificate_pem(HPC.certificate) == files.ca_file.read_bytes()


def test_describe(tmp_path: Path) -> None:
    """Who, and until when; an authority is told apart."""
    files = write_identity(tmp_path / "n1", HPC.issue("n1", ["::1"], now=NOW, days=5), HPC)
    node, authority = describe(files.cert), describe(files.ca_file)

    assert ("hpc", "n1", ("n1", "::1")) == (node.cluster, node.node, node.hosts)
    assert NOW + timedelta(days=5) == node.until
    assert ("hpc", None, ()) == (authority.cluster, authority.node, authority.hosts)
    assert HPC.certificate.not_valid_after_utc == authority.until


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link to nothing"])
def test_never_over_another(tmp_path: Path, kind: str) -> None:
    """What is there stays, byte for byte, and nothing is left beside it."""
    place = tmp_path / "ca"
    if kind == "folder":
        write_authority(place, HPC)
    elif kind == "empty folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    before = modes(place) if place.is_dir() else os.lstat(place)
    with pytest.raises(IdentityUnusable, match="is there already, and is never written over"):
        write_authority(place, Authority.make("other", now=NOW))

    assert before == (modes(place) if place.is_dir() else os.lstat(place))
    assert ["ca"] == os.listdir(tmp_path)
    if kind == "folder":
        assert HPC.certificate == read_authority(place).certificate


def test_nothing_half_done(tmp_path: Path) -> None:
    """Where the folder cannot get its name, what was written is taken away again."""
    name = "n" * 256  # longer than a name may be; the draft's is not
    with pytest.raises(IdentityUnusable, match="file name too long"):
        write_authority(tmp_path / name, HPC)

    assert [] == os.listdir(tmp_path)
    with pytest.raises(IdentityUnusable, match="ca: no such file or directory"):
        write_authority(tmp_path / "missing" / "ca", HPC)


def test_full_disk() -> None:
    """A disk without space is said to be that."""
    with (
        pytest.raises(DiskFull, match="/x: no space left on device; free some"),
        file_faults(Path("/x")),
    ):
        raise OSError(28, "No space left on device")


def test_authority_refused(tmp_path: Path) -> None:
    """Certificate and key must be an authority's, and each other's; the file is named."""
    folder = tmp_path / "ca"
    write_authority(folder, HPC)
    key = folder / "ca.key"
    encrypted = HPC.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    cases = {
        key_pem(ec.generate_private_key(ec.SECP256R1())): "ca.key: is not the key of ",
        key_pem(rsa.generate_private_key(65537, 2048)): "ca.key: is not a key for ECDSA",  # type: ignore[arg-type]
        b"hello": "ca.key: holds no private key",
        encrypted: "ca.key: is encrypted; store the key without a password",
    }
    for content, said in cases.items():
        key.write_bytes(content)
        with pytest.raises(IdentityUnusable, match=said):
            read_authority(folder)
    (folder / "ca.pem").write_bytes(certificate_pem(HPC.issue("n1", now=NOW).certificate))
    with pytest.raises(IdentityUnusable, match=r"ca\.pem: is not the authority of a cluster"):
        read_authority(folder)
    with pytest.raises(IdentityUnusable, match="nowhere"):
        describe(tmp_path / "nowhere")
