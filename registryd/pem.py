"""Certificates and keys in PEM files, as they go into a TLS context.

Invariant: nobody is asked for a password: a key that is encrypted is not usable here.
"""

from __future__ import annotations

import ssl
from pathlib import Path


def ascii_text(raw: bytes) -> str:
    """PEM as text; certificates may have remarks of any encoding between them."""
    return raw.decode("ascii", "replace").replace("\ufffd", "?")


def no_password() -> str:
    """What OpenSSL asks for, where it would ask on the terminal. Raises ValueError."""
    raise ValueError("the key is encrypted")


def load_pair(context: ssl.SSLContext, cert: Path, key: Path) -> str:
    """Let a context show this certificate, of which a file was read; "", or what is wrong with
    the key's."""
    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"is not the key of {cert}"
        return "holds no private key (PEM)"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is encrypted; store the key without a password"
    return ""
