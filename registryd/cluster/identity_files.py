"""Identities as files: ``ca.pem`` and ``ca.key``, and for each node ``ca.pem, cert.pem, key.pem``.

Invariants:
- a folder appears whole, and is on disk when it does, or it does not appear;
- nothing that is there already is written over: an authority lost that way takes its cluster along;
- a folder is 0700 and a key 0600 from the moment it exists.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from registryd.cluster.errors import IdentityUnusable, PeerRefused, file_faults
from registryd.cluster.identity import (
    Authority,
    Identity,
    certificate_pem,
    cluster_of,
    key_pem,
    member_of,
)

AUTHORITY_CERT: Final = "ca.pem"
AUTHORITY_KEY: Final = "ca.key"
#: Within an authority's folder: one folder a node.
NODES: Final = "nodes"
#: A chain of certificates has a few KiB; what is larger is something else.
FILE_LIMIT: Final = 1 << 20

_PARTIAL = ".partial-"
_FOLDER_MODE, _KEY_MODE, _CERT_MODE = 0o700, 0o600, 0o644


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """What a node is given: the authorities that it trusts, its certificate and its key."""

    ca_file: Path
    cert: Path
    key: Path

    @classmethod
    def within(cls, folder: Path) -> IdentityFiles:
        """The files as ``write_identity`` names them."""
        return cls(folder / AUTHORITY_CERT, folder / "cert.pem", folder / "key.pem")


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says: a node's, or with ``node`` None an authority's."""

    cluster: str
    node: str | None
    hosts: tuple[str, ...]
    since: datetime
    until: datetime


def write_authority(folder: Path, authority: Authority) -> None:
    """Make the folder of a new authority. Raises IdentityUnusable, DiskFull."""
    files = {
        AUTHORITY_CERT: (certificate_pem(authority.certificate), _CERT_MODE),
        AUTHORITY_KEY: (key_pem(authority.key), _KEY_MODE),
    }
    _write_folder(folder, files, inner=NODES)


def write_identity(folder: Path, identity: Identity, authority: Authority) -> IdentityFiles:
    """Make the folder of one node, to be copied to it. Raises IdentityUnusable, DiskFull."""
    paths = IdentityFiles.within(folder)
    files = {
        paths.ca_file.name: (certificate_pem(authority.certificate), _CERT_MODE),
        paths.cert.name: (certificate_pem(identity.certificate), _CERT_MODE),
        paths.key.name: (key_pem(identity.key), _KEY_MODE),
    }
    _write_folder(folder, files)
    return paths


def read_authority(folder: Path) -> Authority:
    """The authority in a folder of ``write_authority``. Raises IdentityUnusable."""
    path, key_path = folder / AUTHORITY_CERT, folder / AUTHORITY_KEY
    certificate = read_certificates(path)[0]
    cluster = cluster_of(certificate)
    if cluster is None:
        raise IdentityUnusable(f"{path}: is not the authority of a cluster")
    key = _read_key(key_path)
    if key.public_key() != certificate.public_key():
        raise IdentityUnusable(f"{key_path}: is not the key of {path}")
    return Authority(cluster, certificate, key)


def describe(path: Path) -> Shown:
    """Whose certificate a file holds, and until when it is good. Raises IdentityUnusable."""
    certificate = read_certificates(path)[0]
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    cluster = cluster_of(certificate)
    if cluster is not None:
        return Shown(cluster, None, (), since, until)
    try:
        member = member_of(certificate)
    except PeerRefused as error:
        raise IdentityUnusable(f"{path}: {error}") from error
    return Shown(member.cluster, member.name, member.hosts, since, until)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a PEM file, at least one. Raises IdentityUnusable."""
    try:
        return x509.load_pem_x509_certificates(read_pem(path))
    except (ValueError, x509.InvalidVersion) as error:
        raise IdentityUnusable(f"{path}: holds no certificate (PEM)") from error


def read_pem(path: Path) -> bytes:
    """The bytes of a small file. Raises IdentityUnusable."""
    with file_faults(path), open(path, "rb") as file:
        content = file.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise IdentityUnusable(f"{path}: has more than {FILE_LIMIT} bytes")
    return content


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(read_pem(path), password=None)
    except TypeError as error:
        raise IdentityUnusable(f"{path}: is encrypted; store the key without a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityUnusable(f"{path}: holds no private key (PEM)") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityUnusable(f"{path}: is not a key for ECDSA")
    return key


def _write_folder(folder: Path, files: Mapping[str, tuple[bytes, int]], inner: str = "") -> None:
    """Let a folder appear with these files (content, mode) and one empty folder in it."""
    draft = folder.parent / f"{_PARTIAL}{secrets.token_hex(8)}"
    with file_faults(folder):
        if os.path.lexists(folder):
            raise IdentityUnusable(f"{folder}: is there already, and is never written over")
        draft.mkdir(_FOLDER_MODE)
        try:
            for name, (content, mode) in files.items():
                _write_file(draft / name, content, mode)
            if inner:
                (draft / inner).mkdir(_FOLDER_MODE)
            _sync(draft)
            # In a race, an empty folder is all that this can replace.
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _sync(folder.parent)


def _write_file(path: Path, content: bytes, mode: int) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _KEY_MODE)
    with open(number, "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(number, mode)
        os.fsync(number)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
