"""Which TLS a host wants, and the context made of it.

Invariants:
- trust is never given up silently: it takes ``verify = False``, which a person wrote;
- of the folders that may hold certificates (docker's and containers' ``certs.d/HOST``) the first
  that is there counts, alone.
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
    """Whom to trust, and who we are; hosts that agree in it share a session.

    ``clients``: certificates with their keys. ``folders``: of the certs.d kind, the first counts;
    ``shows``: they may hold a certificate of ours; ``state`` changes with their files.
    """

    verify: bool = True
    ca_files: tuple[Path, ...] = ()
    clients: tuple[tuple[Path, Path], ...] = ()
    folders: tuple[Path, ...] = ()
    shows: bool = False
    state: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, config: RegistryConfig) -> TlsSetting:
        """The part of a registry's configuration that is about TLS."""
        client = (config.client_cert, config.client_key)
        return cls(
            config.tls_verify,
            () if config.ca_file is None else (config.ca_file,),
            () if client[0] is None or client[1] is None else ((client[0], client[1]),),
            () if config.cert_dir is None else (config.cert_dir,),
            config.cert_dir is not None,
        )

    @property
    def places(self) -> str:
        """Where certificates were looked for beside the system's, for people."""
        return ", ".join(map(str, (*self.ca_files, *self.folders)))


def make_context(setting: TlsSetting) -> ssl.SSLContext:
    """A client's context; reads files, so call it from a thread. Raises ConfigInvalid."""
    context = ssl.create_default_context()
    if not setting.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    authorities, clients = _in_folders(setting.folders)
    for file in (*setting.ca_files, *authorities):
        # Beside the system's, not instead: a redirect may lead to a host on the internet.
        _load(file, lambda file=file: context.load_verify_locations(file))  # type: ignore[misc]
    for cert, key in (*setting.clients, *clients):
        _load(
            cert,
            lambda cert=cert, key=key: context.load_cert_chain(  # type: ignore[misc]
                cert, key, password=no_password
            ),
        )
    return context


def _in_folders(folders: tuple[Path, ...]) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """The authorities and key pairs in the first folder that is there. Raises ConfigInvalid."""
    for folder in folders:
        try:
            names = sorted(each.name for each in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as error:
            raise ConfigInvalid(f"{folder}: cannot be read: {error.strerror}") from error
        return _sorted_out(folder, names)
    return [], []


def _sorted_out(folder: Path, names: list[str]) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """``*.crt`` are authorities; a ``*.cert`` goes with the ``*.key`` of the same name."""
    clients = []
    for name in names:
        stem, _, kind = name.rpartition(".")
        other = {"cert": "key", "key": "cert"}.get(kind)
        if other is not None and f"{stem}.{other}" not in names:
            raise ConfigInvalid(f"{folder / name}: {stem}.{other} is missing beside it")
        if kind == "cert":
            clients.append((folder / name, folder / f"{stem}.key"))
    return [folder / name for name in names if name.endswith(".crt")], clients


def _load(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise ConfigInvalid(f"{path}: holds no usable certificate or key") from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigInvalid(f"{path}: {error}; store it without a password") from error
