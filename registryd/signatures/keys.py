"""Public keys in PEM files, as cosign writes them (ECDSA on P-256, with SHA-256).

Invariants:
- a file that cannot be read, or holds another kind of key, is an error, never a key less;
- the library is imported when there is a key to read: most nodes have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

#: A public key is a few hundred bytes.
KEY_LIMIT: Final = 64 * 1024


class KeyUnusable(Exception):
    """Raised for a key file that cannot be used; the text is one line that names it."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key and the file it was read from."""

    path: Path
    _verify: Callable[[bytes, bytes], bool] = field(repr=False)

    def has_signed(self, payload: bytes, signature: bytes) -> bool:
        """Whether this is the key's signature over exactly these bytes."""
        return self._verify(payload, signature)


def read_keys(paths: Sequence[Path]) -> list[PublicKey]:
    """The keys in these files; blocks. Raises KeyUnusable."""
    return [_read(path) for path in paths]


def _read(path: Path) -> PublicKey:
    try:
        with path.open("rb") as file:
            raw = file.read(KEY_LIMIT)
    except OSError as error:
        raise KeyUnusable(f"the key {path} cannot be read: {error.strerror}") from error
    return PublicKey(path, _verifier(raw, path))


def _verifier(raw: bytes, path: Path) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"the key {path} is not a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyUnusable(f"the key {path} is not an ECDSA key on P-256, as cosign makes them")
    public = key

    def verify(payload: bytes, signature: bytes) -> bool:
        try:
            public.verify(signature, payload, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True

    return verify
