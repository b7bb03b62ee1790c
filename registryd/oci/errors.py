"""They refused, or you asked wrongly: the errors that the protocol itself names.

RegistryError: a registry answered, and its answer was no (or no sense).
UsageError: what we were asked for cannot be asked (a bad reference, a bad configuration).
Status codes are not here: ``server`` keeps the table from ``code`` to status.
"""

from __future__ import annotations

from dataclasses import dataclass

from cache.errors import Fault


class UsageError(Fault):
    """Raised when the caller asked wrongly; the text says what to write instead."""

    exit_code = 64
    code = "UNSUPPORTED"


class ReferenceInvalid(UsageError):
    """Raised when a text is not an image reference."""

    code = "NAME_INVALID"


class ConfigInvalid(UsageError):
    """Raised when a configuration file cannot be used; names the file and the key's path."""


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One entry of a registry's error body: code, message and detail (as JSON text or empty)."""

    code: str
    message: str = ""
    detail: str = ""


class RegistryError(Fault):
    """Raised when a registry's answer is a refusal or cannot be used.

    ``status`` is the HTTP status (0 when there was none), ``entries`` what its body said.
    """

    def __init__(self, text: str, *, status: int = 0, entries: tuple[ErrorEntry, ...] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.entries = entries


class ManifestUnknown(RegistryError):
    """Raised when a tag or manifest is not there (or may not be seen)."""

    exit_code = 2
    code = "MANIFEST_UNKNOWN"


class NameUnknown(RegistryError):
    """Raised when a repository is not there (or may not be seen)."""

    exit_code = 2
    code = "NAME_UNKNOWN"


class BlobUnknown(RegistryError):
    """Raised when a registry does not have a blob."""

    exit_code = 2
    code = "BLOB_UNKNOWN"


class PlatformUnknown(RegistryError):
    """Raised when an index has no manifest for the platform asked; lists those it has."""

    exit_code = 2
    code = "MANIFEST_UNKNOWN"


class Unauthorized(RegistryError):
    """Raised when a registry wants credentials, or refuses the ones it was given."""

    exit_code = 3
    code = "UNAUTHORIZED"


class Denied(RegistryError):
    """Raised when access is refused whoever asks, or by our own rules."""

    exit_code = 3
    code = "DENIED"


class SignatureInvalid(RegistryError):
    """Raised when the configuration wants an image signed, and no signature of it was verified."""

    exit_code = 3
    code = "DENIED"


class RateLimited(RegistryError):
    """Raised when a registry says "too many requests" and waiting would take too long."""

    exit_code = 4
    code = "TOOMANYREQUESTS"


class Unavailable(RegistryError):
    """Raised when a gateway, a mirror or a daemon could not reach the registry behind it."""

    exit_code = 6
    code = "UNAVAILABLE"


class ManifestInvalid(RegistryError):
    """Raised when a manifest or index is malformed, contradictory, too large or schema 1."""

    code = "MANIFEST_INVALID"


class ManifestBlobUnknown(RegistryError):
    """Raised when a pushed manifest points to content that the repository does not have."""

    code = "MANIFEST_BLOB_UNKNOWN"


class UploadUnknown(RegistryError):
    """Raised when an upload session is not there, or is not the caller's."""

    exit_code = 2
    code = "BLOB_UPLOAD_UNKNOWN"


class UploadInvalid(RegistryError):
    """Raised when an upload cannot be completed as asked."""

    code = "BLOB_UPLOAD_INVALID"


class RangeInvalid(RegistryError):
    """Raised when a byte range cannot be satisfied; ``size`` is the size of the whole."""

    code = "RANGE_INVALID"

    def __init__(self, text: str, *, size: int | None = None) -> None:
        super().__init__(text, status=416)
        self.size = size


class Unsupported(RegistryError):
    """Raised when an operation is not offered (by us, or by a registry)."""

    code = "UNSUPPORTED"


class BadAnswer(RegistryError):
    """Raised when an answer is not a registry's: HTML, a wrong type, a range not asked for."""
