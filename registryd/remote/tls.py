"""Which TLS a registry wants, and the context made of it.

Invariant: trust is never given up silently: it takes ``verify = False``, which a person wrote.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from registryd.config import RegistryConfig
from registryd.oci.errors import ConfigInvalid
from registryd.pem import no_password


@dataclass(frozen=True, slots=True)
class TlsSetting:
    """Whom to trust, and who we are; registries that agree in it share a session."""

    verify: bool = True
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None

    @classmethod
    def of(cls, config: RegistryConfig) -> TlsSetting:
        """The part of a registry's configuration that is about TLS."""
        return cls(config.tls_verify, config.ca_file, config.client_cert, config.client_key)


def make_context(setting: TlsSetting) -> ssl.SSLContext:
    """A client's context; reads files, so call it from a thread. Raises ConfigInvalid."""
    context = ssl.create_default_context()
    if not setting.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if setting.ca_file is not None:
        # Beside the system's, not instead: a redirect may lead to a host on the internet.
        _load(setting.ca_file, lambda: context.load_verify_locations(setting.ca_file))
    if setting.client_cert is not None:
        cert, key = setting.client_cert, setting.client_key
        _load(cert, lambda: context.load_cert_chain(cert, key, password=no_password))
    return context


def _load(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise ConfigInvalid(f"{path}: holds no usable certificate or key") from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigInvalid(f"{path}: {error}; store it without a password") from error
