"""One entry under "auths" of a credentials file, both ways.

Invariant: an error names the file and key, and shows nothing of the entry.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from registryd.oci.errors import ConfigInvalid
from registryd.secrets import Login, Secret


def decode_entry(entry: Any, origin: str) -> Login | None:
    """The login in an entry; None for an empty one, which docker leaves as a mark.

    ``origin`` names file and key. Raises ConfigInvalid.
    """
    if not isinstance(entry, dict):
        raise ConfigInvalid(f"{origin}: is not a JSON object; log in again")
    username, password = _text(entry, "username", origin), _text(entry, "password", origin)
    if encoded := _text(entry, "auth", origin):
        username, password = _decode_auth(encoded, origin)
    token = _text(entry, "identitytoken", origin)
    if not username and not password and not token:
        return None
    return Login(username, Secret(password), Secret(token), origin=origin, stored=True)


def encode_entry(login: Login) -> dict[str, str]:
    """The entry that holds a login."""
    plain = f"{login.username}:{login.password.reveal()}"
    entry = {"auth": base64.b64encode(plain.encode()).decode()}
    if login.identity_token:
        entry["identitytoken"] = login.identity_token.reveal()
    return entry


def _text(entry: dict[str, Any], key: str, origin: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigInvalid(f'{origin}: "{key}" is not a text; log in again')
    return value


def _decode_auth(encoded: str, origin: str) -> tuple[str, str]:
    wrong = f'{origin}: "auth" is not base64 of USER:PASSWORD; log in again'
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        # Not chained: a decoder's error carries the bytes it choked on.
        raise ConfigInvalid(wrong) from None
    username, colon, password = text.partition(":")
    if not colon:
        raise ConfigInvalid(wrong)
    # Old versions of docker padded with NUL bytes.
    return username, password.strip("\0")
