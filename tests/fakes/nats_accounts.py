"""What NATS's own programs make for a site with accounts: an operator, an account, its users.

A key is Ed25519; NATS writes it as base32 of a byte of kind, the key, and a checksum (nkeys). A
JWT is signed by the key above: the operator's for the account's, the account's for a user's.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

OPERATOR, ACCOUNT, USER = 14 << 3, 0 << 3, 20 << 3
SEED = 18 << 3
#: No limit.
FREE = -1


def _text(body: bytes) -> str:
    check = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + check).decode().rstrip("=")


@dataclass(frozen=True)
class Nkey:
    """A key of a kind."""

    kind: int
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        """As it is in JWTs and configurations."""
        raw = self.key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return _text(bytes([self.kind]) + raw)

    @property
    def seed(self) -> str:
        """As it is in credentials files."""
        raw = self.key.private_bytes_raw()
        return _text(bytes([SEED | self.kind >> 5, (self.kind & 31) << 3]) + raw)

    def jwt(self, subject: str, kind: str, **more: Any) -> str:
        """A JWT about somebody, signed by this key."""
        claims = {
            "jti": "1", "iat": int(time.time()), "iss": self.public, "name": kind, "sub": subject,
            "nats": {"type": kind, "version": 2, **more},
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "ed25519-nkey"}
        body = ".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        return f"{body}.{_url64(self.key.sign(body.encode()))}"


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass(frozen=True)
class Accounts:
    """An operator with one account, and the one that the server wants for itself."""

    operator: Nkey = field(default_factory=lambda: Nkey(OPERATOR))
    account: Nkey = field(default_factory=lambda: Nkey(ACCOUNT))
    system: Nkey = field(default_factory=lambda: Nkey(ACCOUNT))

    @property
    def settings(self) -> str:
        """What the server's configuration says of them."""
        operator = self.operator.jwt(self.operator.public, "operator")
        known = ", ".join(
            f'{each.public}: "{self._account(each)}"' for each in (self.account, self.system)
        )
        return (
            f'operator: "{operator}"\nsystem_account: "{self.system.public}"\n'
            f"resolver: MEMORY\nresolver_preload: {{ {known} }}"
        )

    def _account(self, account: Nkey) -> str:
        kinds = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        limits = {**dict.fromkeys(kinds, FREE), "wildcards": True}
        return self.operator.jwt(account.public, "account", limits=limits)

    def credentials(self, user: Nkey | None = None) -> str:
        """A new user's credentials file."""
        user = user or Nkey(USER)
        jwt = self.account.jwt(user.public, "user", subs=FREE, data=FREE, payload=FREE)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n"
            "NKEY Seed printed below can be used to sign and prove identity.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
