"""How a node shows who it is to NATS: a credentials file, a certificate, or nothing.

A credentials file is one of two: what NATS's own programs write (``.creds``: a JWT and the seed of
its key, each between BEGIN and END), or one line ``USER:PASSWORD``.

Invariants:
- files are read anew for each connection, so what was renewed is used and nothing is kept long;
- no secret is in an error; the repr of a login has none.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registryd.cluster.errors import IdentityUnusable
from registryd.cluster.identity_files import read_pem
from registryd.cluster_config import ClusterConfig
from registryd.pem import ascii_text, load_pair
from registryd.secrets import Secret

_BLOCK = re.compile(r"-{3,}BEGIN ([A-Z ]+)-{3,}\s+(\S+)\s+-{3,}END \1-{3,}")
_JWT: Final = "NATS USER JWT"
_SEED: Final = "USER NKEY SEED"
_PAIR = re.compile(r"([^\s:]+):(\S+)\s*")
#: How a user's seed begins, which reads SU: five bits for a seed, eight for a user.
_USER_SEED: Final = base64.b32decode("SUAAAAAA")[:2]
_SEED_LENGTH: Final = 32
_NOTHING: Final = Secret("")


@dataclass(frozen=True, slots=True)
class NatsLogin:
    """What a connection to NATS shows; empty where nothing is asked for."""

    user: str = ""
    password: Secret = _NOTHING
    jwt: Secret = _NOTHING
    key: Ed25519PrivateKey | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def read(cls, config: ClusterConfig) -> NatsLogin:
        """Read the files that the configuration names, so call it from a thread.

        Raises IdentityUnusable, which names the file.
        """
        tls = _tls(config)
        path = config.nats_credentials
        if path is None:
            return cls(tls=tls)
        text = ascii_text(read_pem(path))
        blocks = dict(_BLOCK.findall(text))
        if _JWT in blocks and _SEED in blocks:
            key = _key(path, blocks[_SEED])
            return cls(jwt=Secret(blocks[_JWT]), key=key, tls=tls)
        if match := _PAIR.fullmatch(text):
            return cls(match[1], Secret(match[2]), tls=tls)
        raise IdentityUnusable(
            f"{path}: holds no credentials of NATS (a JWT and its seed, or one line USER:PASSWORD)"
        )

    def signed(self, nonce: str) -> bytes:
        """What proves to NATS that the JWT is ours (base64)."""
        if self.key is None:
            raise ValueError("there is no key to sign with")
        return base64.b64encode(self.key.sign(nonce.encode()))


def _key(path: Path, seed: str) -> Ed25519PrivateKey:
    """The key that a seed stands for: base32 of two bytes of kind, 32 of key, two of checksum."""
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        raw = b""
    body, check = raw[:-2], raw[-2:]
    sound = len(body) == 2 + _SEED_LENGTH and binascii.crc_hqx(body, 0).to_bytes(2, "little")
    if sound != check or not body.startswith(_USER_SEED):
        raise IdentityUnusable(f"{path}: its seed is damaged, or not a user's")
    return Ed25519PrivateKey.from_private_bytes(body[2:])


def _tls(config: ClusterConfig) -> ssl.SSLContext | None:
    """None where the configuration says nothing of TLS, and no server wants it."""
    files = config.nats_ca_file or config.nats_cert
    if not files and not any(url.startswith("tls:") for url in config.nats):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.nats_ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=ascii_text(read_pem(config.nats_ca_file)))
        except (ssl.SSLError, ValueError) as error:
            words = f"{config.nats_ca_file}: holds no certificate (PEM)"
            raise IdentityUnusable(words) from error
    if config.nats_cert is not None and config.nats_key is not None:
        read_pem(config.nats_cert)
        read_pem(config.nats_key)
        if wrong := load_pair(context, config.nats_cert, config.nats_key):
            raise IdentityUnusable(f"{config.nats_key}: {wrong}")
    return context
