"""The TLS of a listener: which certificate it shows, and whom it lets in.

Invariants:
- TLS 1.2 at least; with ``client_ca`` nobody gets as far as a request without a certificate of it;
- files that cannot be used are one line with the key's path, before anything is served by them.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from registryd.config import Listen
from registryd.oci.errors import ConfigInvalid
from registryd.pem import ascii_text, load_pair


def make_contexts(listen: Sequence[Listen]) -> list[ssl.SSLContext | None]:
    """The context of each listener, None for plain HTTP; reads files. Raises ConfigInvalid."""
    return [make_context(entry, f"daemon.listen[{at}]") for at, entry in enumerate(listen)]


def make_context(entry: Listen, key: str) -> ssl.SSLContext | None:
    """The context of one listener, whose table is called ``key`` in the configuration.

    Raises ConfigInvalid.
    """
    if entry.tls_cert is None or entry.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # Read first: what OpenSSL says of a pair does not tell which of the two files it means.
    _certificates(entry.tls_cert, f"{key}.tls_cert")
    _text(entry.tls_key, f"{key}.tls_key")
    if wrong := load_pair(context, entry.tls_cert, entry.tls_key):
        raise ConfigInvalid(f"{key}.tls_key: {entry.tls_key} {wrong}")
    if entry.client_ca is not None:
        authorities = _certificates(entry.client_ca, f"{key}.client_ca")
        context.load_verify_locations(cadata=authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _certificates(path: Path, key: str) -> str:
    """The certificates in this file. Raises ConfigInvalid unless there is one."""
    text = _text(path, key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigInvalid(f"{key}: {path} holds no certificate (PEM)") from error
    return text


def _text(path: Path, key: str) -> str:
    try:
        return ascii_text(path.read_bytes())
    except OSError as error:
        raise ConfigInvalid(f"{key}: {path} cannot be read: {error.strerror}") from error
